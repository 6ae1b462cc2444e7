#!/usr/bin/env bash
# Write the plan as a comment of the pull request: over the one that an earlier run wrote, found by its mark.
set -euo pipefail

body=$(mktemp)
{
  echo "$MARK"
  cat "$COMMENT"
} > "$body"
comments="repos/$GITHUB_REPOSITORY/issues/$PULL_REQUEST/comments"
known=$(gh api --paginate "$comments" --jq '.[] | [.id, .body] | @json' \
  | while IFS= read -r line; do case $line in *"${MARK//\"/\\\"}"*) echo "$line" ;; esac; done \
  | sed -E 's/^\[([0-9]+),.*/\1/' | tail -n 1)
if [ -n "$known" ]; then
  gh api --method PATCH "repos/$GITHUB_REPOSITORY/issues/comments/$known" -F body=@"$body" > /dev/null
else
  gh api --method POST "$comments" -F body=@"$body" > /dev/null
fi
