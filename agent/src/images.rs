//! Images that we pulled and that nothing uses any more go when the disk runs low, the longest unused first.
//!
//! Which they are stands in a file that is written when a pull ends and when an image goes, and never otherwise. An image
//! that was there already when we wanted it is somebody else's, and stays. The engine has the last word: it removes no
//! image of which there is a container, whoever made that.

use std::collections::BTreeSet;
use std::time::Duration;

use outrigger_protocol::{Moment, Permille};

use crate::engine::EngineError;

/// Time between two looks at the disk.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// An image is kept for so long after its last use: a roll that goes back would have to pull it again. Kubelet's own.
const REST: Duration = Duration::from_secs(120);
/// An image that the engine keeps, because somebody else uses it, is not asked for again before this.
const AGAIN: Duration = Duration::from_secs(3600);
/// Images that are remembered; the oldest are forgotten, and so stay.
const MOST: usize = 1000;

/// Between which fillings of the disk images are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageLimits {
    /// Above this it begins.
    pub above: Permille,
    /// At this it ends.
    pub down_to: Permille,
}

impl Default for ImageLimits {
    /// Kubelet's own.
    fn default() -> Self {
        Self { above: Permille::new(850), down_to: Permille::new(800) }
    }
}

/// An image to be removed, if it is still this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// The reference by which we pulled it.
    pub image: String,
    /// What the reference meant then.
    pub digest: String,
}

/// One image that we pulled.
#[derive(Debug, Clone)]
struct Pulled {
    image: String,
    digest: String,
    /// None while it is used, or nobody has looked.
    unused_since: Option<Moment>,
    not_before: Moment,
}

/// The images that we pulled.
#[derive(Debug)]
pub struct Images {
    /// None: nothing is removed. What is pulled is still remembered, for when somebody changes that.
    limits: Option<ImageLimits>,
    /// The one pulled first comes first.
    pulled: Vec<Pulled>,
    look_at: Moment,
    /// Whether it has begun and has not ended.
    is_low: bool,
    is_removing: bool,
}

impl Images {
    /// Those that an earlier agent's file names: a digest, a space and a reference in each line.
    #[must_use]
    pub fn read(limits: Option<ImageLimits>, text: &str) -> Self {
        let pulled = text.lines().filter_map(|line| line.split_once(' ')).map(|(digest, image)| Pulled {
            image: image.to_owned(),
            digest: digest.to_owned(),
            unused_since: None,
            not_before: Moment::ZERO,
        });
        Self { limits, pulled: pulled.take(MOST).collect(), look_at: Moment::ZERO, is_low: false, is_removing: false }
    }

    /// What the file is to say.
    #[must_use]
    pub fn text(&self) -> String {
        self.pulled.iter().map(|one| format!("{} {}\n", one.digest, one.image)).collect()
    }

    /// We have pulled an image that was not there.
    pub fn pulled(&mut self, image: &str, digest: &str) {
        // Neither may break a line of the file; an engine has no such names.
        if digest.is_empty() || digest.contains(char::is_whitespace) || image.contains(char::is_whitespace) {
            return;
        }
        self.pulled.retain(|one| one.image != image);
        if self.pulled.len() >= MOST {
            self.pulled.remove(0);
        }
        let (image, digest) = (image.to_owned(), digest.to_owned());
        self.pulled.push(Pulled { image, digest, unused_since: None, not_before: Moment::ZERO });
    }

    /// When [`Self::look`] is worth its while.
    #[must_use]
    pub fn look_at(&self) -> Moment {
        if self.limits.is_none() || self.is_removing { Moment::NEVER } else { self.look_at }
    }

    /// What to remove now. `in_use`: images of the assignment and of our containers; `is_full`: the engine says that it has
    /// no room, whatever the figures are.
    pub fn look(&mut self, now: Moment, in_use: &BTreeSet<&str>, disk: Permille, is_full: bool) -> Option<Removal> {
        let limits = self.limits.filter(|_| !self.is_removing)?;
        self.look_at = now + LOOK_EVERY;
        for one in &mut self.pulled {
            one.unused_since = one.unused_since.or(Some(now)).filter(|_| !in_use.contains(one.image.as_str()));
        }
        self.is_low = is_full || disk > if self.is_low { limits.down_to } else { limits.above };
        if !self.is_low {
            return None;
        }
        let has_rested =
            |one: &&Pulled| one.not_before <= now && one.unused_since.is_some_and(|since| now.since(since) >= REST);
        // Of those unused for equally long the one pulled first: the order of the list.
        let one = self.pulled.iter().filter(has_rested).min_by_key(|one| one.unused_since)?;
        self.is_removing = true;
        Some(Removal { image: one.image.clone(), digest: one.digest.clone() })
    }

    /// The engine has answered to a removal; returns whether the file has to change. The next look is at once.
    pub fn removed(&mut self, now: Moment, removal: &Removal, outcome: &Result<(), EngineError>) -> bool {
        self.is_removing = false;
        self.look_at = now;
        let is_gone = matches!(outcome, Ok(()) | Err(EngineError::ImageNotFound { .. }));
        let before = self.pulled.len();
        if is_gone {
            self.pulled.retain(|one| one.image != removal.image);
        }
        // An engine that does not answer says nothing about the image.
        let pause = if matches!(outcome, Err(EngineError::Refused { .. })) { AGAIN } else { LOOK_EVERY };
        for one in self.pulled.iter_mut().filter(|one| one.image == removal.image) {
            one.not_before = now + pause;
        }
        self.pulled.len() != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: BTreeSet<&str> = BTreeSet::new();

    fn images(names: &[&str]) -> Images {
        let mut images = Images::read(Some(ImageLimits::default()), "");
        names.iter().for_each(|name| images.pulled(name, &format!("sha256:{name}")));
        images
    }

    fn at(seconds: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(seconds)
    }

    /// Looks and lets the engine do it.
    fn look(images: &mut Images, seconds: u64, in_use: &[&str], disk: u16) -> Option<String> {
        let in_use = in_use.iter().copied().collect();
        let removal = images.look(at(seconds), &in_use, Permille::new(disk), false)?;
        images.removed(at(seconds), &removal, &Ok(()));
        Some(removal.image)
    }

    #[test]
    fn it_begins_above_one_limit_and_ends_at_the_other_and_what_is_used_stays() {
        let mut images = images(&["a", "b", "c", "d"]);
        assert_eq!(look(&mut images, 0, &["b"], 500), None);
        assert_eq!(look(&mut images, 200, &["b"], 850), None, "the limit itself is not above it");
        assert_eq!(look(&mut images, 201, &["b"], 851).as_deref(), Some("a"));
        assert_eq!(look(&mut images, 202, &["b"], 801).as_deref(), Some("c"), "it goes on below the upper limit");
        assert_eq!(look(&mut images, 203, &["b"], 800), None);
        assert_eq!(look(&mut images, 204, &["b"], 820), None, "and begins again only above it");
        assert_eq!(look(&mut images, 205, &["b"], 990).as_deref(), Some("d"));
        assert_eq!(look(&mut images, 206, &["b"], 990), None);
        assert_eq!(images.text(), "sha256:b b\n");
    }

    #[test]
    fn the_longest_unused_goes_first_and_what_was_used_a_moment_ago_stays() {
        let mut images = images(&["a", "b"]);
        for (seconds, in_use) in [(0, vec!["a", "b"]), (60, vec!["a"]), (120, vec![])] {
            assert_eq!(look(&mut images, seconds, &in_use, 0), None);
        }
        assert_eq!(look(&mut images, 190, &[], 900).as_deref(), Some("b"));
        assert_eq!(look(&mut images, 200, &[], 900), None);
        assert_eq!(look(&mut images, 240, &[], 900).as_deref(), Some("a"));
    }

    #[test]
    fn a_full_engine_counts_whatever_the_figures_say() {
        let mut images = images(&["a"]);
        assert_eq!(images.look(at(0), &NOBODY, Permille::new(10), true), None);
        assert!(images.look(at(120), &NOBODY, Permille::new(10), true).is_some());
        assert_eq!(images.look_at(), Moment::NEVER, "one at a time");
    }

    #[test]
    fn what_the_engine_keeps_is_not_asked_for_at_once_and_does_not_hold_up_the_others() {
        let mut images = images(&["a", "b"]);
        assert_eq!(look(&mut images, 0, &[], 900), None, "nothing has been unused for long");
        let first = images.look(at(130), &NOBODY, Permille::new(900), false).unwrap();
        let refused = Err(EngineError::Refused { reason: "conflict: container f00 is using it".to_owned() });
        assert!(!images.removed(at(130), &first, &refused));
        assert_eq!(images.look_at(), at(130));
        assert_eq!(look(&mut images, 131, &[], 900).as_deref(), Some("b"));
        assert_eq!(look(&mut images, 132, &[], 900), None);
        assert_eq!(look(&mut images, 4000, &[], 900).as_deref(), Some("a"));
    }

    #[test]
    fn what_was_pulled_is_known_after_a_restart_and_nothing_goes_where_it_is_off() {
        let text = images(&["a:1", "b@sha256:1"]).text();
        let mut again = Images::read(Some(ImageLimits::default()), &format!("{text}nonsense\n"));
        assert_eq!(again.text(), text);
        look(&mut again, 0, &[], 0);
        assert_eq!(look(&mut again, 130, &[], 900).as_deref(), Some("a:1"));
        let mut off = Images::read(None, &text);
        assert_eq!((look(&mut off, 0, &[], 999), look(&mut off, 999, &[], 999)), (None, None));
        assert_eq!(off.look_at(), Moment::NEVER);
    }
}
