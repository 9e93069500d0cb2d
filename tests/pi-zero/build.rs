//! Links these programs to other addresses than pistream's: count.c tells them apart by that.

fn main() {
    println!("cargo::rustc-link-arg-bins=-Wl,-Ttext-segment=0x30000000");
}
