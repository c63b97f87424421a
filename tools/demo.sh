#!/bin/sh
# The whole story in a few minutes, on the trained model that ships with the repository: an answer over several
# pictures, the same questions under several attention implementations, the conclusion, the report.
#   demo.sh PROGRAM MODEL
set -eu
program=$1
model=$2
cd "$(dirname "$0")/.."
out=build/demo
mkdir -p "$out"

show() {
  echo
  echo "\$ $*"
  echo
}

echo
echo "1. One question over three pictures. Below the answer: each picture's size, the size the model saw, the image"
echo "   tokens it became, and where the time went."
question='Picture 1: <image>
Picture 2: <image>
Picture 3: <image>
What number is on the green diamond?'
show "$program run -m $model --image demo/card1.png --image demo/card2.png --image demo/card3.png --greedy \\
    '$question'"
"$program" run -m "$model" --image demo/card1.png --image demo/card2.png --image demo/card3.png --greedy \
  "$question" </dev/null

echo
echo "2. Questions about one card or fact (easy), about several cards, and about facts in long text. The handwriting"
echo "   was not in the model's training."
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
echo
echo "The report with its charts: $out/audit.html (one file; open it in any browser)."
echo
echo 'Next:'
echo "  $program run -m DIR --image FILE \"question\"       DIR: a downloaded Qwen2.5-VL-3B-Instruct folder"
echo "  $program audit -m DIR --suite my.jsonl            your own questions on your own model (docs/audit.md)"
echo "  $program presets                                  what the configurations compute"
echo "  $program run --help                               every option"
