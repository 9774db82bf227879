# A secret with a new content replaces the copies that use it, one after another; nobody else notices.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/web x3 secret db monitor 5s
service shop/api x2
apply shop
wait 10s
mark
secret db is version 2
wait 8s
# Three copies of web and two of api run; one has been changed and is watched, the next is not begun or just so.
expect starts 2
wait 60s
expect starts 3
expect stops 3
expect roll shop/web done
expect roll shop/api done
# The same once more, an older one, and one that nobody uses: nothing happens.
mark
secret db is version 2
secret db is version 1
secret other is version 9
wait 30s
expect starts 0
expect stops 0
