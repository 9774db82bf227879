# Work is moved back to a device that has stayed for a minute: one copy at a time, started there before it stops here.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/web x6
apply shop
wait 10s
cut pi-2
wait 10s
expect shop/web runs 8
mend pi-2
wait 30s
expect shop/web on pi-1 pi-1 pi-1 pi-3 pi-3 pi-3
starts pi-2 take 3s
mark
wait 32s
expect shop/web on pi-1 pi-1 pi-1 pi-2 pi-3 pi-3 pi-3
wait 20s
expect shop/web on pi-1 pi-1 pi-2 pi-2 pi-3 pi-3
expect starts 2
expect stops 2
expect note "has more copies of the service"
# One copy more or less is even enough.
wait 5m
expect starts 2
