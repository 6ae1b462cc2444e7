#!/usr/bin/env bash
# Make the plan; say in the step's outputs what it found. Fails where a finding blocks `asof apply`, or no plan was made.
set -uo pipefail

folder=$(mktemp -d "${RUNNER_TEMP:-/tmp}/asof-plan.XXXXXX")
"$INPUT_ASOF" ${INPUT_ENV:+--env "$INPUT_ENV"} --repo "$INPUT_REPO" --output json \
  plan --exit-code --markdown "$folder/plan.md" > "$folder/plan.json" 2> "$folder/stderr"
code=$?
cat "$folder/stderr" >&2

changes=false errors=false
case $code in
  0) ;;
  12) changes=true ;;
  10) errors=true ;;
  *)
    # No plan: the error itself is what to read.
    {
      echo "### Asof: no plan"
      echo
      echo '```'
      tail -c 4000 "$folder/stderr"
      echo '```'
    } > "$folder/plan.md"
    errors=true
    ;;
esac
{
  echo "changes=$changes"
  echo "errors=$errors"
  echo "plan=$folder/plan.json"
  echo "comment=$folder/plan.md"
} >> "$GITHUB_OUTPUT"
cat "$folder/plan.md" >> "$GITHUB_STEP_SUMMARY"
[ "$errors" = false ] || exit "$code"
