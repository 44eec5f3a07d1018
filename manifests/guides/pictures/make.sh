#!/bin/sh
# Makes the pictures of the README anew, from real runs: the live view in a terminal, and the page of a run, light and dark.
#
#     make.sh FOLDER_OF_THE_TOOLS
#
# Needs tmux, aha (terminal to HTML), chromium and the DejaVu fonts.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
PATH=$(cd "$1" && pwd):$PATH
scratch=$(mktemp -d)
trap 'tmux -L pictures kill-server 2>/dev/null || true; rm -rf "$scratch"' EXIT
cd "$scratch"

# picture NAME PAGE WIDTH HEIGHT [OPTION]
picture() {
    chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size="$3,$4" ${5:+"$5"} \
        --user-data-dir="$scratch/chromium" --screenshot="$here/$1" "file://$2" 2>"$scratch/chromium.log" ||
        { cat "$scratch/chromium.log" >&2; exit 1; }
}

cp "$here/../../recipes/pmf-20m.toml" .
prep generate movielens --ratings 20000000 --users 138000 --movies 27000 --seed 8 -o ratings.csv
prep movielens ratings.csv --holdout 0.1 --name ml20m -o prepared/ml20m
shard prepared/ml20m --batch 12000
tmux -L pictures -f /dev/null new-session -d -x 110 -y 24 -s run \
    "train --manifest ml20m.json --recipe pmf-20m.toml --workers 2 --max-epochs 30 -o runs/ml20m"
sleep 15
tmux -L pictures capture-pane -p -e -t run >live.ansi
{
    echo '<meta charset="utf-8"><style>body { margin: 0; background: #111; color: #ddd; }
        pre { margin: 14px; font: 15px/1.15 "DejaVu Sans Mono"; }
        b.dots { display: inline-block; width: 1ch; font-weight: normal; } b.dots i { font: 12.3px "DejaVu Sans"; }</style>'
    # The font has no Braille, which the chart is drawn with: that of another one is put into cells as wide as the others.
    aha --black <live.ansi | sed -n '/<pre>/,/<\/pre>/p' |
        perl -CSD -pe 's|([\x{2801}-\x{28ff}])|<b class="dots"><i>$1</i></b>|g'
} >live.html
picture live.png "$scratch/live.html" 1030 410
while tmux -L pictures has-session -t run 2>/dev/null; do sleep 1; done
picture report-light.png "$scratch/runs/ml20m/report.html" 1100 1150
picture report-dark.png "$scratch/runs/ml20m/report.html" 1100 1150 --force-dark-mode
