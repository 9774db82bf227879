//! Links, races and other names.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

fn folder() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = fs::canonicalize(folder.path()).unwrap().to_str().unwrap().to_owned();
    (folder, path)
}

fn place_of(path: &str) -> Place {
    let found = fs::metadata(path).unwrap();
    Place::Here(found.dev(), found.ino())
}

#[test]
fn a_path_without_links_leads_where_it_says() {
    let (_folder, path) = folder();
    fs::create_dir_all(format!("{path}/a/b")).unwrap();
    assert_eq!(find(&format!("{path}/a/b"), &Guarded::default()), Ok(place_of(&format!("{path}/a/b"))));
    assert_eq!(find(&format!("{path}/a/new/x"), &Guarded::default()), Ok(Place::Missing));
}

#[test]
fn links_anywhere_in_it_are_refused() {
    let (_folder, path) = folder();
    fs::create_dir_all(format!("{path}/a/b")).unwrap();
    symlink("/", format!("{path}/root")).unwrap();
    symlink("a", format!("{path}/link")).unwrap();
    for bad in ["root", "root/etc", "link", "link/b", "root/proc/self/root"] {
        let why = find(&format!("{path}/{bad}"), &Guarded::default()).unwrap_err();
        assert!(why.contains("is a link"), "{bad}: {why}");
    }
    for bad in ["a/../../etc", "a/.", "a//b", "a/"] {
        assert!(find(&format!("{path}/{bad}"), &Guarded::default()).is_err(), "{bad}");
    }
}

#[test]
fn a_folder_in_which_anybody_may_swap_it_is_refused() {
    let (_folder, path) = folder();
    fs::create_dir_all(format!("{path}/open/a")).unwrap();
    fs::set_permissions(format!("{path}/open"), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(find(&format!("{path}/open/a"), &Guarded::default()).is_err());
    assert!(find(&format!("{path}/open/new"), &Guarded::default()).is_err());
    // Where it is sticky, only the owner of what is there can swap it.
    fs::set_permissions(format!("{path}/open"), fs::Permissions::from_mode(0o1777)).unwrap();
    assert!(find(&format!("{path}/open/a"), &Guarded::default()).is_ok());
}

#[test]
fn what_is_guarded_is_known_under_any_name() {
    let (_folder, path) = folder();
    fs::create_dir_all(format!("{path}/state/identity")).unwrap();
    fs::write(format!("{path}/engine.sock"), "").unwrap();
    fs::hard_link(format!("{path}/engine.sock"), format!("{path}/other")).unwrap();
    let guarded = Guarded(vec![format!("{path}/state"), format!("{path}/engine.sock")]);
    for bad in ["state", "state/identity", "engine.sock", "other"] {
        assert!(find(&format!("{path}/{bad}"), &guarded).is_err(), "{bad}");
    }
}

/// Somebody swaps a folder for a link to the whole device, as fast as he can. Whatever was found is the folder itself. And
/// where an engine opened the path by its text and ended elsewhere, comparing the two tells.
#[test]
fn a_link_swapped_between_look_and_use_never_leads_out() {
    let (_folder, path) = folder();
    let (swapped, real, link) = (format!("{path}/data"), format!("{path}/real"), format!("{path}/link"));
    fs::create_dir(&real).unwrap();
    symlink("/", &link).unwrap();
    let inside = place_of(&real);
    let is_over = Arc::new(AtomicBool::new(false));
    let swapper = {
        let (is_over, swapped) = (Arc::clone(&is_over), swapped.clone());
        std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                fs::rename(&real, &swapped).unwrap();
                fs::rename(&swapped, &real).unwrap();
                fs::rename(&link, &swapped).unwrap();
                fs::rename(&swapped, &link).unwrap();
            }
        })
    };
    let (mut found, mut refused, mut caught) = (0, 0, 0);
    for _ in 0..10_000 {
        match find(&swapped, &Guarded::default()) {
            Ok(place @ Place::Here(..)) => {
                assert_eq!(place, inside);
                found += 1;
                if let Ok(used) = fs::metadata(&swapped) {
                    caught += usize::from(Place::Here(used.dev(), used.ino()) != place);
                }
            }
            Ok(Place::Missing) => (),
            Err(_) => refused += 1,
        }
    }
    is_over.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
    assert!(found > 0 && refused > 0, "found {found}, refused {refused}, caught {caught}");
}

#[test]
fn what_a_process_sees_is_compared_by_what_it_is() {
    let (_folder, path) = folder();
    let pid = i64::from(std::process::id());
    assert_eq!(seen_by(pid, &path), Some(place_of(&path)));
    assert_eq!(seen_by(pid, &format!("{path}/missing")), None);
}
