# A pull that comes no closer is tried on another device; one that is slow is left alone.
policy pull_stall=60s
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
fault stuck:1 hang on pi-2
pulls pi-1 take 10m
pulls pi-2 take 10m
service shop/stuck x1 image stuck:1
service shop/slow x1 image slow:1 constraint node.hostname==pi-1
apply shop
wait 59s
expect note "shop/stuck.1 is placed on pi-2"
expect no note "shop/stuck.1 is started on pi-1"
# Time in which the hub hears nothing is no standstill.
hub is paused 10s
wait 500ms
expect no note "shop/stuck.1 is started on pi-1"
wait 10s
expect note "shop/stuck.1 is started on pi-1: it kept failing on pi-2"
wait 11m
expect shop/slow on pi-1
expect shop/stuck on pi-1
