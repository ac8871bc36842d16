#!/bin/sh
# A step of each generation: a refund through the gateway, under the policy that is to be released. Its sealed run is the evidence.
set -e
"$ESTOPPEL_PROGRAM" --json run list --admin "$ADMIN" > /dev/null
curl --silent --show-error --fail --output /dev/null --header "Estoppel-Run: $ESTOPPEL_EVOLUTION" \
    --header "Estoppel-Evolution-Id: $ESTOPPEL_NONCE" --header 'Content-Type: application/json' \
    --data '{"order":"o-7","cents":4000}' "http://$GATEWAY/refunds"
sealed=$("$ESTOPPEL_PROGRAM" --json seal "$ESTOPPEL_EVOLUTION" --admin "$ADMIN" | sed 's/.*"path":"\([^"]*\)".*/\1/')
cp "$sealed" "$ESTOPPEL_EVIDENCE/calls.pef.zip"
