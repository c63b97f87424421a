#!/usr/bin/env bash
# Asks several questions about one video; its frames are encoded once.
#   FOVEA_MODEL=Qwen/Qwen2.5-VL-3B-Instruct video_questions.sh clip.mp4 "What happens?" "Who is there at the end?"
#   FLAGS="--fps 1 --max-pixels 200704" chooses frames and their size.
set -euo pipefail
[ $# -gt 1 ] || { echo "usage: $(basename "$0") VIDEO QUESTION..." >&2; exit 2; }
video=$1
shift
# Each line is a command or a question; every question sees the earlier ones and their answers.
{ echo "/video $video"; printf '%s\n' "$@"; } | fovea chat --quiet --greedy -n 256 ${FLAGS:-}
