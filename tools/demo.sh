#!/bin/sh
# Asks a model that ships with the repository about two pictures that do, and says what it shows.
#   demo.sh PROGRAM MODEL     MODEL empty: a tiny checkpoint with random weights, made here first
set -eu
program=$1
model=$2
cd "$(dirname "$0")/.."

question='What is on <image> and what is on <image>?'
random=no
if [ -z "$model" ]; then
  random=yes
  model=build/demo-model
  if [ ! -e "$model/config.json" ]; then
    rm -rf "$model"
    tools/step.sh 'tiny random model' build/log/demo-model.log \
      "$program" synth --config models/demo-tiny/config.json --out "$model" --seed 1
  fi
fi

echo
if [ "$random" = yes ]; then
  echo "The model is a Qwen2.5-VL of full structure but tiny, with RANDOM WEIGHTS: no trained one ships yet."
  echo "So the answer is gibberish. What is real: both pictures are decoded, resized and cut into patches, read by"
  echo "the vision tower, placed in the chat template, and the text decoder answers token by token."
  echo
fi
echo "\$ $program run -m $model --image demo/shapes.png --image demo/chart.jpg \\"
echo "      --greedy --max-new-tokens 24 '$question'"
echo
"$program" run -m "$model" --image demo/shapes.png --image demo/chart.jpg \
  --greedy --max-new-tokens 24 "$question" </dev/null
echo
echo 'The lines above: the answer; each picture with its size, the size the model saw and the tokens it became;'
echo 'and where the time went.'
echo
echo 'Next:'
echo "  $program run -m DIR --image FILE \"question\"    with DIR a downloaded Qwen2.5-VL-3B-Instruct folder"
echo "  $program synth --config 3b --out DIR           random weights of the real size, to try this machine's speed"
echo "  $program inspect -m $model         what is in a checkpoint"
echo "  $program run --help                           every option"
