//! Hands on what the scripts in `cross/` have to say to the linker of the program, in `OUTRIGGER_LINK`, words with spaces
//! between them. By `RUSTFLAGS` it would reach the crates that are linked into nothing, too, and build all of them anew.

fn main() {
    println!("cargo::rerun-if-env-changed=OUTRIGGER_LINK");
    for file in ["link.rs", "seldom.ld", "seldom-hub.ld", "static-unwind/libgcc_s.so"] {
        println!("cargo::rerun-if-changed=../cross/{file}");
    }
    for word in std::env::var("OUTRIGGER_LINK").unwrap_or_default().split_whitespace() {
        println!("cargo::rustc-link-arg-bins={word}");
    }
}
