//! How large anything on the wire may be. What is larger is dropped and counted, never half read.

/// Bytes of a `hello` payload.
pub const MAX_HELLO: usize = 16 * 1024;
/// Bytes of a `report` payload: a heartbeat is a few tens of bytes, the rest is usage of up to
/// [`MAX_REPLICAS_PER_DEVICE`] replicas.
pub const MAX_REPORT: usize = 64 * 1024;
/// Bytes of a `status` payload.
pub const MAX_STATUS: usize = 1024 * 1024;
/// Bytes of a `want` payload. A thousand replicas of large services fit; more belong on more devices.
pub const MAX_WANT: usize = 4 * 1024 * 1024;
/// Bytes of a `lease` payload.
pub const MAX_LEASE: usize = 256;
/// Bytes of an `ask` payload.
pub const MAX_ASK: usize = 4 * 1024;
/// Bytes of a `renew` payload: one request of a few hundred bytes.
pub const MAX_RENEW: usize = 2 * 1024;
/// Bytes of a `certificate` payload: a chain and a few authorities of some hundred bytes each.
pub const MAX_CERTIFICATE: usize = 16 * 1024;
/// Bytes of an `answer` payload: one chunk of logs.
pub const MAX_ANSWER: usize = 64 * 1024;
/// Bytes that one copy takes in an assignment at most, besides its specification: its names, its numbers, its policy.
pub const MAX_ASSIGNED: usize = 256;
/// Replicas that one device may be given. Docker itself becomes slow far below.
pub const MAX_REPLICAS_PER_DEVICE: usize = 2_000;
/// Bytes of a text that a device tells about a replica (a pull error, an exit message). Longer ones are cut.
pub const MAX_DETAIL: usize = 512;
/// Bytes of a `mesh` payload: some hundred names of devices and copies.
pub const MAX_MESH: usize = 64 * 1024;
/// Bytes of a secret or config. Docker's own limit for secrets.
pub const MAX_FILE: usize = 500 * 1024;
/// Bytes of an `unseal` payload: names, two keys and a signature.
pub const MAX_UNSEAL: usize = 1024;
/// Bytes of a `sealed` payload: one secret or config with what its encryption adds.
pub const MAX_SEALED: usize = MAX_FILE + 1024;
