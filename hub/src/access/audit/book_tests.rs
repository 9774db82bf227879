//! Files of the log are closed, kept and let go, and what a crash left is mended.

use std::io::Write;

use super::*;

const SMALL: Keep = Keep { file_bytes: 1000, files: 3 };

fn entry(what: &str) -> Entry {
    Entry { who: "ann".into(), from: "::1".into(), what: what.into(), detail: None, status: 200 }
}

fn book(folder: &Path) -> Book {
    Book::open(folder, USUAL, &Anchor::none(), Anchor::none()).unwrap().0
}

fn found(folder: &Path, anchor: &Anchor) -> Walk {
    walk_of(&File::open(folder.join(FILE)).unwrap(), &Anchor::none(), anchor).unwrap()
}

/// Walks through all files, as the check does.
fn walk_all(folder: &Path, start: &Anchor, anchor: &Anchor) -> Walk {
    let mut walk = Walk::behind(start.clone());
    for first in closed_in(folder).unwrap() {
        let file = File::open(closed_path(folder, first)).unwrap();
        walk.read(&closed_name(first), &mut BufReader::new(file), anchor, |_| ()).unwrap();
    }
    walk.read(FILE, &mut BufReader::new(File::open(folder.join(FILE)).unwrap()), anchor, |_| ()).unwrap();
    walk.finish(anchor)
}

#[test]
fn what_a_failed_write_left_is_taken_away_before_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let mut book = book(folder.path());
    book.append(entry("first"), 1).unwrap();
    book.file.write_all(b"{\"number\":2,\"at").unwrap();
    book.is_torn = true;
    book.append(entry("second"), 2).unwrap();
    // A whole line of which nobody was told that it is there.
    let told = book.last.clone();
    book.append(entry("third"), 3).unwrap();
    (book.last, book.is_torn) = (told, true);
    book.append(entry("fourth"), 4).unwrap();
    let walk = found(folder.path(), &book.last);
    assert_eq!((walk.records, walk.problems), (3, Vec::<String>::new()));
}

#[test]
fn a_log_that_cannot_be_written_says_so_until_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let mut book = book(folder.path());
    book.append(entry("first"), 1).unwrap();
    let good = std::mem::replace(&mut book.file, File::open(folder.path().join(FILE)).unwrap());
    assert!(book.append(entry("lost"), 2).is_err());
    assert!(book.mend().is_err(), "changes are refused");
    book.file = good;
    book.append(entry("second"), 3).unwrap();
    let walk = found(folder.path(), &book.last);
    assert_eq!((walk.records, walk.problems, book.last.number), (2, Vec::<String>::new(), 2));
}

#[test]
fn lines_beyond_all_measure_are_problems_and_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(FILE), vec![b'x'; 1024 * 1024]).unwrap();
    let walk = found(folder.path(), &Anchor::none());
    assert_eq!((walk.records, walk.problems.len()), (0, super::super::walk::MAX_PROBLEMS));
}

#[test]
fn a_large_file_is_closed_and_the_chain_goes_on_in_the_next_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let keep = Keep { files: 100, ..SMALL };
    let (mut book, _) = Book::open(folder.path(), keep, &Anchor::none(), Anchor::none()).unwrap();
    for number in 0..40 {
        book.append(entry("something"), number).unwrap();
        if number % 7 == 0 {
            let last = book.last.clone();
            let (again, fault) = Book::open(folder.path(), keep, &Anchor::none(), last.clone()).unwrap();
            assert_eq!((fault, &again.last), (None, &last));
            book = again;
        }
    }
    assert!(book.closed.len() > 3, "{:?}", book.closed);
    let walk = walk_all(folder.path(), &Anchor::none(), &book.last);
    assert_eq!((walk.records, walk.problems), (40, Vec::<String>::new()));
    for file in fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap().metadata().unwrap();
        assert!(file.len() < SMALL.file_bytes + 500 && file.permissions().mode() & 0o777 == 0o600);
    }
}

#[test]
fn a_closed_file_that_was_changed_or_taken_away_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let (mut book, _) = Book::open(folder.path(), SMALL, &Anchor::none(), Anchor::none()).unwrap();
    (0..40).for_each(|number| book.append(entry("something"), number).unwrap());
    let second = closed_path(folder.path(), *book.closed.iter().nth(1).unwrap());
    let whole = fs::read_to_string(&second).unwrap();
    for harm in [whole.replacen("something", "anything!", 1), whole[..whole.len() - 5].to_owned(), String::new()] {
        fs::write(&second, harm).unwrap();
        assert!(!walk_all(folder.path(), &Anchor::none(), &book.last).problems.is_empty());
    }
    fs::remove_file(&second).unwrap();
    assert!(!walk_all(folder.path(), &Anchor::none(), &book.last).problems.is_empty());
    fs::write(&second, whole).unwrap();
    assert!(walk_all(folder.path(), &Anchor::none(), &book.last).problems.is_empty());
}

#[test]
fn the_oldest_files_go_and_what_is_left_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (mut book, _) = Book::open(folder.path(), SMALL, &Anchor::none(), Anchor::none()).unwrap();
    let mut start = Anchor::none();
    for number in 0..100 {
        book.append(entry("something"), number).unwrap();
        if let Some(surplus) = book.surplus().unwrap() {
            start = surplus.start;
            if number % 2 == 0 {
                book.drop_file(surplus.first).unwrap();
            } else {
                // The hub goes down between the note and the deed.
                book = Book::open(folder.path(), SMALL, &start, book.last.clone()).unwrap().0;
            }
        }
    }
    assert_eq!(book.closed.len(), SMALL.files);
    let walk = walk_all(folder.path(), &start, &book.last);
    assert_eq!((walk.records + start.number, walk.problems), (100, Vec::<String>::new()));
    assert!(
        !walk_all(folder.path(), &Anchor::none(), &book.last).problems.is_empty(),
        "without the note it is a fault"
    );
}
