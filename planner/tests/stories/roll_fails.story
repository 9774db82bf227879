# A copy that does not become healthy stops the roll and says so; the rest keep what they have.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/web x3 image web:1
apply shop
wait 10s
fault web:2 crash "exited with code 3"
service shop/web x3 image web:2
apply shop
wait 1m
expect roll shop/web paused "shop/web.1: exited with code 3"
expect shop/web good 2
# The lost one is replaced by what it was.
power-cut pi-3
wait 10s
expect shop/web good 2
# Going back to the old content is no new change for those that never left it.
mark
service shop/web x3 image web:1
apply shop
wait 20s
expect roll shop/web done
expect shop/web good 3
expect starts 1
