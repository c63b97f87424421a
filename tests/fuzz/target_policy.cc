// A precision policy in either form: what can be read can be written and read again, and resolved or refused.
#include "policy/precision_policy.h"
#include "target.h"

FOVEA_FUZZ_TARGET(policy) {
  using fovea::PrecisionPolicy;
  const bool json = !bytes.empty() && bytes.front() == '{';
  const PrecisionPolicy policy =
      json ? PrecisionPolicy::parse_json(bytes) : PrecisionPolicy::parse_text(bytes);
  fovea::fuzz::require(PrecisionPolicy::parse_text(policy.text()) == policy,
                       "the text form reads back equal");
  fovea::fuzz::require(PrecisionPolicy::parse_json(policy.json()) == policy,
                       "the JSON form reads back equal");
  fovea::PolicyTarget target;
  target.text_layers = 4;
  target.vision_layers = 3;
  policy.resolve(target);
}
