# What the owner of one device does not allow is tried elsewhere, and where nobody allows it, it stays refused with the reason.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
fault shop/app owner "the owner of the device does not allow privileged containers" on pi-1
fault shop/all owner "the owner of the device does not allow the mount of /srv"
service shop/app x1
apply shop
wait 10s
expect shop/app on pi-2
expect shop/app.1 because "the owner of pi-1 does not allow it there"
expect note "does not allow privileged containers"
service shop/all x1
apply shop
wait 60s
expect shop/all runs 0
expect note "does not allow the mount of /srv"
# Each device is named with what its owner says.
expect shop/all.1 waits "pi-1: the owner of the device does not allow the mount of /srv"
expect shop/all.1 waits "pi-2: the owner of the device"
expect shop/all.1 waits "pi-3: the owner of the device"
# It has been everywhere; from then on nothing is tried, and nothing is told again and again.
mark
wait 1800s
expect no note "shop/all"
expect starts 0
# A device that comes and goes has the same policy as before: it is not asked again.
mark
reconnect pi-1
wait 10s
expect no note "shop/all"
# One whose owner allows it is.
owner pi-1 allows shop/all
wait 10s
expect shop/all on pi-1
