# An exclusive copy lost in the middle of a change: its prepared successor runs when the lease is over, and the old copy
# is gone for good.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/db x1 exclusive 10s image db:1
apply shop
wait 20s
expect shop/db on pi-1
cut pi-1
wait 6s
service shop/db x1 exclusive 10s image db:2
apply shop
wait 4s
expect shop/db.1 waits "lease"
wait 5s
expect shop/db on pi-2
hears pi-1 after 3s
mend pi-1
wait 20s
expect shop/db on pi-2
