#!/bin/sh
# Opens an audit's HTML report in a real browser and fails on a console message, on anything wider than a phone of
# 360 pixels, and on a print without pages. Leaves pictures to look at.
#   check_report.sh                 the report of tests/data/audit/sample.json
#   check_report.sh REPORT.html     another one
# For development: needs Chromium and poppler (apt-get install chromium poppler-utils).
set -eu
cd "$(dirname "$0")/.."

for command in chromium pdftoppm; do
  if ! command -v "$command" >/dev/null 2>&1; then
    echo "check_report.sh needs $command, which is not installed." >&2
    echo '  remedy: apt-get install chromium poppler-utils' >&2
    exit 2
  fi
done

out=$PWD/build/report
mkdir -p "$out"
report=${1:-$out/sample.html}
if [ $# -eq 0 ]; then
  cmake --preset release >"$out/build.log"
  cmake --build --preset release --target render_report >>"$out/build.log"
  find build -name render_report -type f -exec {} tests/data/audit/sample.json \; >"$report"
fi
report=$(realpath "$report")

# browse LOG OPTION... URL: one headless run of its own profile; the log holds what pages write to the console.
browse() {
  log=$1
  shift
  timeout 120 chromium --headless=new --no-sandbox --disable-gpu --hide-scrollbars --allow-file-access-from-files \
    --user-data-dir="$out/profile" --enable-logging=stderr --virtual-time-budget=3000 "$@" 2>"$log" ||
    { echo "Chromium failed; see $log" >&2; exit 1; }
}

# A window of 360 pixels is smaller than Chromium allows, a frame in a page is not.
frame() {
  cat <<HTML
<!DOCTYPE html><style>body { margin: 0 }</style>
<iframe src="file://$report" width="$1" height="800" style="border: 0"></iframe>
<p id="result">not measured</p>
<script>
  document.querySelector("iframe").addEventListener("load", (event) => {
    const page = event.target.contentDocument;
    for (const details of page.querySelectorAll("details")) details.open = $2;
    const root = page.documentElement;
    event.target.style.height = root.scrollHeight + "px";
    document.getElementById("result").textContent = "width " + root.scrollWidth + " height " + root.scrollHeight;
  });
</script>
HTML
}

failed=no
for details in false true; do
  frame 360 $details >"$out/phone.html"
  browse "$out/phone-$details.log" --dump-dom "file://$out/phone.html" >"$out/phone.dom"
  result=$(sed -n 's/.*<p id="result">\(.*\)<\/p>.*/\1/p' "$out/phone.dom")
  echo "  phone, details open: $details: $result"
  case $result in
    'width 360 '*) ;;
    *)
      echo '  wider than 360 pixels, or not measured'
      failed=yes
      ;;
  esac
  if [ $details = false ]; then phone_height=${result##* }; fi
done
frame 360 false >"$out/phone.html"
browse "$out/phone.log" --window-size="500,$phone_height" --screenshot="$out/phone.png" "file://$out/phone.html"
browse "$out/screen.log" --window-size=1200,5400 --screenshot="$out/screen.png" "file://$report"
browse "$out/dark.log" --window-size=1200,5400 --blink-settings=preferredColorScheme=0 \
  --screenshot="$out/dark.png" "file://$report"
browse "$out/print.log" --no-pdf-header-footer --print-to-pdf="$out/print.pdf" "file://$report"
rm -f "$out"/print-*.png
pdftoppm -r 70 -png "$out/print.pdf" "$out/print"
pages=$(find "$out" -name 'print-*.png' | wc -l)
echo "  print: $pages pages"
[ "$pages" -gt 0 ] || failed=yes

if grep -h 'CONSOLE' "$out"/phone-*.log "$out"/phone.log "$out"/screen.log "$out"/dark.log "$out"/print.log; then
  echo '  the page wrote to the console'
  failed=yes
fi
rm -rf "$out/profile"
echo "  pictures: $out/*.png"
[ "$failed" = no ] || exit 1
echo '  report in a browser                ok'
