#!/bin/sh
# Stands in front of a node's runc, crun and runsc, so that they run pods under the engine's own configuration on
# a machine that gives less than a node has:
# - without CAP_SYS_RESOURCE nobody may be killed later than others (proc(5), oom_score_adj);
# - where version 1 of control groups holds the controllers, version 2 has none, and neither a weight nor a
#   limit can be given.
# runsc refuses to copy a node's own network, and here takes a pod's for that too: it gets none. Of a sandbox that
# is gone it speaks in words that the shim made for runc does not know.
name=${0##*/}
bundle=
want=
for arg; do
  if [ -n "$want" ]; then bundle=$arg want=; fi
  case $arg in
    --bundle | -b) want=yes ;;
    --bundle=*) bundle=${arg#*=} ;;
  esac
done
if [ -f "$bundle/config.json" ]; then
  # CRI-O writes it over many lines.
  sed -zi 's/"oomScoreAdj": *-[0-9]*/"oomScoreAdj":0/; s/"cpu": *{[^}]*}/"cpu":{}/; s/"memory": *{[^}]*}/"memory":{}/' "$bundle/config.json"
fi
for own in /usr/libexec/node/*/"$name"; do :; done
[ "$name" = runsc ] || exec "$own" "$@"
"$own" --network=none --ignore-cgroups "$@" && exit
code=$?
case " $* " in *" kill "*) echo "container not running" >&2 ;; esac
exit "$code"
