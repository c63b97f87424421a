#!/bin/sh
# The whole story in a few minutes, on the trained model that ships with the repository: one question answered twice,
# 72 questions under five configurations, the conclusion, the report.
#   demo.sh --announce        what will happen and how long it takes, said before anything is compiled
#   demo.sh PROGRAM MODEL
set -eu
cd "$(dirname "$0")/.."
out=build/demo

announce() {
  if [ -x build/fovea ]; then
    compiling='compiles what has changed'
  else
    compiling="compiles fovea (once; 5 to 15 minutes on two cores)"
  fi
  echo "make demo installs what is missing, $compiling, then asks the small model"
  echo 'that ships here 72 questions under five configurations (3 to 5 minutes on two cores). It needs 2 GB of memory'
  echo 'and 1 GB of disk; nothing is downloaded but packages of your distribution. Ctrl-C stops it at any time.'
  echo
}

if [ "$1" = --announce ]; then
  announce
  exit 0
fi
program=$1
model=$2
mkdir -p "$out"

show() {
  echo
  echo "\$ $*"
  echo
}

ask() {
  implementation=$1
  show "$program run -m $model --image demo/card1.png demo/card2.png demo/card3.png \\
    --attn $implementation --dtype bf16 --greedy '$question'"
  "$program" run -m "$model" --image demo/card1.png --image demo/card2.png --image demo/card3.png \
    --attn "$implementation" --dtype bf16 --greedy "$question" </dev/null
}

echo
echo '1. One question over three pictures, answered twice by the same weights. The third card, demo/card3.png, shows a'
echo '   green diamond. Below each answer: the size the model saw of each picture, its tokens, and where the time went.'
question='Picture 1: <image>
Picture 2: <image>
Picture 3: <image>
What shape is in picture 3?'
ask eager
ask flash_attention_2
echo
echo '   eager rounds the attention scores to bf16. This model, like every Qwen2.5, has large key biases, which make the'
echo '   scores huge; what is rounded away is what tells one picture from another.'

echo
echo "2. That was one question. Now 24 of each kind: about one card or fact (easy), about several cards, and about facts"
echo "   in long text. The handwriting was not in the model's training."
# The three suites lie in one folder, and so the audit reads them as one.
rm -rf "$out/questions"
make_suite() {
  kind=$1
  show "$program suite make --kind $* --count 24 --seed 2025 --out $out/questions/$kind"
  shift
  "$program" suite make --kind "$kind" "$@" --count 24 --seed 2025 --out "$out/questions/$kind"
}
make_suite easy
make_suite multi-image
make_suite long-context --tokens 300-900

echo
echo "3. The same model answers them under five configurations of its arithmetic."
show "$program audit -m $model --suite $out/questions --compare eager-bf16,sdpa,flash-bf16,eager-qkv-fp32 \\
    --drift --attribute --attribution-items 6 --report $out/audit.html --json $out/audit.json"
rm -f "$out/audit.json.state"
"$program" audit -m "$model" --suite "$out/questions" --compare eager-bf16,sdpa,flash-bf16,eager-qkv-fp32 \
  --drift --attribute --attribution-items 6 --report "$out/audit.html" --json "$out/audit.json"
cat <<END

The report with its charts: $out/audit.html (one file; open it in any browser).

What this small model can read: cards with one coloured shape and one handwritten digit, up to 16 of them, and short
English sentences of a fixed form ("The code of Mara is 4817."). It can read nothing else: no photo, page, other word or
language; for those, take a real checkpoint:

  hf download Qwen/Qwen2.5-VL-3B-Instruct                       7.5 GB (docs/guide/quickstart.md has the licences)
  $program run -m Qwen/Qwen2.5-VL-3B-Instruct --image page.png "Read the text."
  $program audit -m Qwen/Qwen2.5-VL-3B-Instruct --suite my.jsonl    your own questions (docs/guide/audit.md)
  $program run --help                                           every option
END
