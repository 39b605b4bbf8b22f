set -eu
/job/busybox cp "$DATALAYER_IN/up/default/a.txt" "$DATALAYER_OUT/default/copy.txt"
