# A device whose owner has refused a service is not asked again for a change that asks for the same.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
device pi-4 arm64 4cpu 4GiB
device pi-5 arm64 4cpu 4GiB
device pi-6 arm64 4cpu 4GiB
fault shop/app owner "the owner of the device does not allow it" on pi-1
fault shop/app owner "the owner of the device does not allow it" on pi-2
fault shop/app owner "the owner of the device does not allow it" on pi-3
fault shop/app owner "the owner of the device does not allow it" on pi-4
fault shop/app owner "the owner of the device does not allow it" on pi-5
service shop/app x2
apply shop
wait 10s
# Five refusals are no crash loop: the sixth device is reached, however many moves an hour are allowed.
expect shop/app on pi-6 pi-6
service shop/app x2 command 1KiB
apply shop
wait 60s
drain pi-6
mark
wait 60s
expect no note "given up"
expect refusal shop/app.1 pi-5 "the owner of the device does not allow it"
expect refusal shop/app.1 pi-1 "the owner of the device does not allow it"
expect shop/app on pi-6 pi-6
# Where the image is another one, they may think otherwise, and are asked.
service shop/app x2 image app:2
apply shop
wait 60s
expect note "is not allowed on"
expect shop/app on pi-6 pi-6
