# Graphics processors are counted, and so is the most that one device may have of a service.
device pc-1 amd64 8cpu 16GiB attached gpu
device pc-2 amd64 8cpu 16GiB generic gpu=2
device pi-1 arm64 4cpu 4GiB
service shop/train x4 gpus 1
service shop/one x4 max 1
apply shop
wait 2s
expect shop/train on pc-1 pc-2 pc-2
expect refusal shop/train.4 pc-1 "0 of `gpu` are free, 1 are wanted"
expect refusal shop/train.4 pi-1 "0 of `gpu` are free"
expect shop/one on pc-1 pc-2 pi-1
expect shop/one.4 waits "no device can take it"
expect refusal shop/one.4 pc-1 "it has 1 copies of the service"
