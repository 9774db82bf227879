//! What is kept, and what is refused.

use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::*;
use crate::config::HubAddress;
use outrigger_trust::testing::TestAuthority;

fn hub() -> HubFile {
    let mqtt = vec![HubAddress { host: "hub".into(), port: 8883 }];
    HubFile { url: "https://hub:7640".into(), mqtt, fleet: None }
}

fn joined(authority: &TestAuthority, key: DeviceKey, name: &str) -> Joined {
    let chain = authority.device(&key.request(name).unwrap());
    Joined::new(chain, vec![authority.certificate()], key, hub()).unwrap()
}

fn dir() -> (TempDir, IdentityDir) {
    let folder = tempfile::tempdir().unwrap();
    let dir = IdentityDir::of(folder.path());
    (folder, dir)
}

#[test]
fn what_is_kept_is_read_and_its_owner_alone_can_read_it() {
    let (folder, dir) = dir();
    assert!(dir.read().unwrap().is_none());
    let made = joined(&TestAuthority::new(), dir.key_for_join().unwrap(), "pi-7");
    dir.put(&made).unwrap();
    let read = dir.read().unwrap().unwrap();
    assert_eq!((read.device.as_str(), &read.hub), ("pi-7", &hub()));
    assert_eq!(read.key.digest(), made.key.digest());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir.path()), 0o700);
    for file in fs::read_dir(dir.path()).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left of the join");
}

#[test]
fn a_join_that_was_cut_off_goes_on_with_the_same_key() {
    let (_folder, dir) = dir();
    let first = dir.key_for_join().unwrap().digest();
    assert_eq!(dir.key_for_join().unwrap().digest(), first);
    let made = joined(&TestAuthority::new(), dir.key_for_join().unwrap(), "pi");
    dir.put(&made).unwrap();
    assert_ne!(dir.key_for_join().unwrap().digest(), first, "joining anew makes a new key");
    assert_eq!(dir.read().unwrap().unwrap().key.digest(), first, "and leaves the old one until it is done");
}

#[test]
fn joining_anew_exchanges_everything_at_once() {
    let (folder, dir) = dir();
    dir.put(&joined(&TestAuthority::new(), dir.key_for_join().unwrap(), "old")).unwrap();
    let other = TestAuthority::new();
    dir.put(&joined(&other, dir.key_for_join().unwrap(), "new")).unwrap();
    let read = dir.read().unwrap().unwrap();
    assert_eq!((read.device.as_str(), read.authorities), ("new", vec![other.certificate()]));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_renewal_brings_a_new_authority_along_and_keeps_the_key() {
    let (_folder, dir) = dir();
    let old = TestAuthority::new();
    dir.put(&joined(&old, dir.key_for_join().unwrap(), "pi")).unwrap();
    let before = dir.read().unwrap().unwrap();
    let new = TestAuthority::new();
    let der = |all: Vec<CertificateDer<'_>>| all.into_iter().map(|one| one.as_ref().to_vec()).collect();
    let chain = new.device(&before.key.request("pi").unwrap());
    let message = outrigger_protocol::Certificate {
        chain: der(chain.clone()),
        authorities: der(vec![old.certificate(), new.certificate()]),
    };
    dir.renew(&message).unwrap();
    let after = dir.read().unwrap().unwrap();
    assert_eq!((after.key.digest(), after.chain), (before.key.digest(), chain));
    assert_eq!(after.authorities.len(), 2);
}

#[test]
fn a_certificate_of_another_key_name_or_authority_changes_nothing() {
    let (_folder, dir) = dir();
    let authority = TestAuthority::new();
    dir.put(&joined(&authority, dir.key_for_join().unwrap(), "pi")).unwrap();
    let before = dir.read().unwrap().unwrap();
    let der = |all: Vec<CertificateDer<'_>>| all.into_iter().map(|one| one.as_ref().to_vec()).collect::<Vec<_>>();
    let renew = |request: String, by: &TestAuthority, trusted: &TestAuthority| {
        let authorities = der(vec![trusted.certificate()]);
        dir.renew(&outrigger_protocol::Certificate { chain: der(by.device(&request)), authorities }).unwrap_err()
    };
    let other_key = DeviceKey::fresh().unwrap().request("pi").unwrap();
    assert!(matches!(renew(other_key, &authority, &authority), IdentityError::OtherKey));
    let other_name = before.key.request("other").unwrap();
    assert!(matches!(renew(other_name, &authority, &authority), IdentityError::OtherDevice(_)));
    let own = before.key.request("pi").unwrap();
    assert!(matches!(renew(own, &TestAuthority::new(), &authority), IdentityError::Chain(_)));
    let nothing = outrigger_protocol::Certificate { chain: vec![], authorities: vec![] };
    assert!(matches!(dir.renew(&nothing), Err(IdentityError::Chain(_))));
    assert_eq!(dir.read().unwrap().unwrap().chain, before.chain);
}

#[test]
fn a_damaged_identity_is_an_error_and_not_a_device_without_one() {
    let (_folder, dir) = dir();
    dir.put(&joined(&TestAuthority::new(), dir.key_for_join().unwrap(), "pi")).unwrap();
    for file in [KEY, CERTIFICATE, AUTHORITIES, HUB] {
        let path = dir.path().join(file);
        let whole = fs::read_to_string(&path).unwrap();
        for damaged in [String::new(), whole[..whole.len() / 2].to_owned(), whole.replace('\n', "\r\r\n")] {
            fs::write(&path, damaged).unwrap();
            assert!(dir.read().is_err(), "{file}");
        }
        fs::remove_file(&path).unwrap();
        assert!(dir.read().is_err(), "{file} is not there");
        fs::write(&path, whole).unwrap();
        assert!(dir.read().unwrap().is_some());
    }
}

#[test]
fn names_that_are_none_are_not_taken_from_a_certificate() {
    let authority = TestAuthority::new();
    for name in ["", "Pi", "a/b", "pi#", "+", "$SYS", "a b", "pi\0", "рі", "x;reboot", "`id`", &"a".repeat(64)] {
        let key = DeviceKey::fresh().unwrap();
        let Ok(request) = key.request(name) else { continue };
        let chain = authority.device(&request);
        let made = Joined::new(chain, vec![authority.certificate()], key, hub());
        assert!(matches!(made, Err(IdentityError::Name(_))), "{name:?}: {made:?}");
    }
}
