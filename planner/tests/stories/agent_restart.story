# An agent that says that it restarts may be away for a while: its containers go on.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/web x3
apply shop
wait 10s
mark
bye pi-2 restart
expect pi-2 away
wait 20s
expect pi-2 away
reconnect pi-2
wait 5s
expect pi-2 up
expect starts 0
expect stops 0
# One that never returns is lost all the same.
bye pi-2 restart
wait 31s
expect pi-2 lost
expect shop/web.2 on pi-1 pi-2
