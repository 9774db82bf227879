# What one device is told must fit into one message: a device whose assignment would grow too large says so.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
# A specification is told once, however many copies there are.
service shop/many x20 command 1MiB
service shop/one x1 command 1MiB
service shop/two x1 command 1MiB
service shop/three x1 command 2MiB
service shop/huge x1 command 5MiB
apply shop
wait 10s
expect shop/many runs 20
expect shop/one runs 1
expect shop/two runs 1
expect shop/three runs 1
expect shop/huge.1 waits "no device can take it"
expect refusal shop/huge.1 pi-1 "copies and"
expect refusal shop/huge.1 pi-1 "more than the 4.0 MiB of one message"
service shop/four x1 command 2MiB
apply shop
wait 5s
expect shop/four.1 waits "no device can take it"
# With less to tell there is room again.
without shop/three
apply shop
wait 5s
expect shop/four runs 1
