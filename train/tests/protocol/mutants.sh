#!/bin/sh
# Breaks rules of the protocol one at a time, in a copy of the sources, and sees that the simulation finds each.
# The build cache is that of CARGO_TARGET_DIR, or target/mutants beside the sources.
set -eu
root=$(cd "$(dirname "$0")/../../.." && pwd)
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git -C "$root" ls-files -z | (cd "$root" && xargs -0 cp --parents -t "$copy")
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target/mutants}"
supervisor=train/src/protocol/supervisor.rs
worker=train/src/protocol/worker.rs
found=0

mutant() {
    name=$1 file=$2 from=$3 to=$4
    cp "$root/$file" "$copy/$file"
    FROM=$from TO=$to python3 - "$copy/$file" <<'P'
import os, sys
text = open(sys.argv[1]).read()
assert text.count(os.environ["FROM"]) == 1, "the rule is not where it was: " + os.environ["FROM"]
open(sys.argv[1], "w").write(text.replace(os.environ["FROM"], os.environ["TO"]))
P
    if (cd "$copy" && cargo test --release --workspace --test protocol seeds_) >"$copy/log" 2>&1; then
        echo "NOT FOUND: $name"
        exit 1
    fi
    seed=$(sed -n 's/^\(seed [0-9]*: .*\)/\1/p' "$copy/log" | head -1 | cut -c1-100)
    [ -n "$seed" ] || { echo "$name: the copy does not build"; tail -20 "$copy/log"; exit 1; }
    echo "found: $name ($seed)"
    found=$((found + 1))
    cp "$root/$file" "$copy/$file"
}

mutant "a life that was replaced is listened to" $supervisor \
    'member.heard.is_some() && incarnation < member.incarnation' 'false'
mutant "a report counts twice" $supervisor \
    'if member.reported == turn {' 'if false {'
mutant "a report of another turn counts" $supervisor \
    'if turn == self.directive.turn {' 'if turn <= self.directive.turn {'
mutant "the best model is forgotten when who stores it dies" $supervisor \
    'lost(p) && p.save.keep' 'false && p.save.keep'
mutant "checkpoints are committed out of order" $supervisor \
    'take_while(|p| p.stored.is_some())' 'filter(|p| p.stored.is_some())'
mutant "losses of before a way back are kept" $supervisor \
    'self.reported = Reported::default();
        self.counted.clear();' ''
mutant "a worker that is ahead does not go back" $worker \
    'self.steps > at || is_behind(&directive, self.steps)' 'is_behind(&directive, self.steps)'
mutant "a worker does not catch up" $worker \
    'if self.steps < at {' 'if self.steps + 1 < at {'
mutant "what a dead worker was storing is waited for" $supervisor \
    'self.pending.retain(|p| !lost(p));' ''
mutant "the next life of one who has reported is taken to store what that one was storing" $supervisor \
    '&& !reported;' ';'
mutant "the best model is forgotten when a supervisor hands over" $supervisor \
    'if !keep && let Some(command) =' 'if let Some(command) ='
mutant "a supervisor hands over while the best model is being stored" $supervisor \
    'is_ending || self.pending.iter().any(|p| p.save.keep)' 'is_ending'
echo "all $found rules are held by the simulation"
