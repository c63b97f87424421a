// The file that lets an audit be continued. What was read can be written again.
#include "audit/result_store.h"
#include "scratch.h"
#include "target.h"

FOVEA_FUZZ_TARGET(audit_state) {
  static const fovea::fuzz::Scratch scratch;
  const fovea::ResultShape shape{.vision_blocks = 1,
                                 .vision_heads = 2,
                                 .text_layers = 2,
                                 .text_heads = 2,
                                 .max_context = 1000,
                                 .max_new_tokens = 8,
                                 .questions = {"q1", "q2"}};
  fovea::ResultStore store({{"model", "tiny"}, {"questions", 2}});
  store.load(scratch.write("audit.state", bytes), shape);
  store.save(scratch.path() / "again.state");
  fovea::ResultStore again({{"model", "tiny"}, {"questions", 2}});
  again.load(scratch.path() / "again.state", shape);
}
