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
expect shop/app.1 because "kept failing on pi-1"
expect note "does not allow privileged containers"
service shop/all x1
apply shop
wait 60s
expect shop/all runs 0
expect note "does not allow the mount of /srv"
# It has been everywhere; from then on nothing is tried, and nothing is told again and again.
mark
wait 1800s
expect no note "shop/all"
expect starts 0
