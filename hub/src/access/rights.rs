//! The table of rights, and the one function that decides by it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use outrigger_api::Role;
use thiserror::Error;

use super::Caller;

/// What a route asks of who calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    /// Who.
    pub need: Need,
    /// What tokens limited to some stacks get.
    pub reach: Reach,
}

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Anybody.
    Open,
    /// A token of this role or a greater one.
    Role(Role),
    /// Somebody with the hub's state folder.
    Local,
}

/// What tokens limited to some stacks get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Only where the stack in the path is theirs.
    Stack,
    /// The handler cuts its answer down.
    Part,
    /// It is about no stack.
    Any,
    /// Nothing.
    Fleet,
}

/// Of which stacks a caller may know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All, and what is no stack's.
    Fleet,
    /// These, by their exact names. None: nothing at all.
    Stacks(BTreeSet<String>),
}

impl Scope {
    /// Whether something of this stack, or of none, may be known.
    #[must_use]
    pub fn sees(&self, stack: Option<&str>) -> bool {
        match self {
            Self::Fleet => true,
            Self::Stacks(stacks) => stack.is_some_and(|stack| stacks.contains(stack)),
        }
    }
}

/// What is decided about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Allowed,
    /// Nobody knows who asks.
    Unauthenticated,
    /// Who asks may not do this.
    Forbidden,
    /// Who asks is not to know whether there is such a thing.
    Hidden,
}

/// Decides. `stack` is that of the path, where there is one.
#[must_use]
pub fn decide(caller: Option<&Caller>, right: Right, stack: Option<&str>) -> Verdict {
    let least = match right.need {
        Need::Open => return Verdict::Allowed,
        Need::Role(role) => Some(role),
        Need::Local => None,
    };
    let Some(caller) = caller else { return Verdict::Unauthenticated };
    let has_role = least.map_or(caller.is_local(), |least| caller.role >= least);
    let is_within = match (&caller.scope, right.reach) {
        (Scope::Fleet, _) => true,
        (Scope::Stacks(stacks), _) if stacks.is_empty() => false,
        (Scope::Stacks(_), Reach::Any | Reach::Part) => true,
        (Scope::Stacks(_), Reach::Fleet) => false,
        // Before the role: who may not know of a stack is not told either that others may change it.
        (scope @ Scope::Stacks(_), Reach::Stack) if !scope.sees(stack) => return Verdict::Hidden,
        (Scope::Stacks(_), Reach::Stack) => true,
    };
    if has_role && is_within { Verdict::Allowed } else { Verdict::Forbidden }
}

/// All rights, by path and method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights(BTreeMap<String, BTreeMap<String, Right>>);

/// A row that says nothing sensible.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line} of the table of rights: {fault}")]
pub struct BadRow {
    line: usize,
    fault: String,
}

impl Rights {
    /// Those of this hub.
    pub fn ours() -> &'static Self {
        static OURS: LazyLock<Rights> = LazyLock::new(|| {
            Rights::parse(include_str!("rights.txt")).expect("the table is part of the program, and a test reads it")
        });
        &OURS
    }

    fn parse(text: &str) -> Result<Self, BadRow> {
        let mut rights = Self(BTreeMap::new());
        for (index, line) in text.lines().enumerate() {
            let wrong = |fault: &str| BadRow { line: index + 1, fault: fault.to_owned() };
            let row = line.split('#').next().unwrap_or_default();
            let fields: Vec<_> = row.split_whitespace().collect();
            let [method, path, need, reach] = fields[..] else {
                if fields.is_empty() {
                    continue;
                }
                return Err(wrong("it has not four fields"));
            };
            let need = need_of(need).ok_or_else(|| wrong("nobody knows this need"))?;
            let reach = reach_of(reach).ok_or_else(|| wrong("nobody knows this reach"))?;
            if reach == Reach::Stack && !path.contains("{stack}") {
                return Err(wrong("the path names no {stack}"));
            }
            let known = rights.0.entry(path.to_owned()).or_default();
            if known.insert(method.to_owned(), Right { need, reach }).is_some() {
                return Err(wrong("the route is there twice"));
            }
        }
        Ok(rights)
    }

    /// Of this route. `HEAD` is a `GET` whose answer nobody reads.
    #[must_use]
    pub fn of(&self, method: &str, path: &str) -> Option<Right> {
        let method = if method == "HEAD" { "GET" } else { method };
        self.0.get(path)?.get(method).copied()
    }

    /// Whether any method of this path has a row.
    #[must_use]
    pub fn knows(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// All rows: method, path, right.
    pub fn rows(&self) -> impl Iterator<Item = (&str, &str, Right)> {
        self.0.iter().flat_map(|(path, methods)| {
            methods.iter().map(move |(method, right)| (method.as_str(), path.as_str(), *right))
        })
    }
}

impl std::fmt::Display for Need {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Open => f.write_str("open"),
            Self::Role(role) => role.fmt(f),
            Self::Local => f.write_str("local"),
        }
    }
}

fn need_of(word: &str) -> Option<Need> {
    let needs = [Need::Open, Need::Local].into_iter();
    let mut needs = needs.chain([Role::Viewer, Role::Operator, Role::Admin].map(Need::Role));
    needs.find(|need| need.to_string() == word)
}

fn reach_of(word: &str) -> Option<Reach> {
    match word {
        "stack" => Some(Reach::Stack),
        "part" => Some(Reach::Part),
        "any" => Some(Reach::Any),
        "fleet" => Some(Reach::Fleet),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::access::Who;

    #[test]
    fn the_table_is_whole() {
        assert!(Rights::parse(include_str!("rights.txt")).unwrap().rows().count() > 30);
    }

    #[test]
    fn a_row_that_says_nothing_sensible_is_told_with_its_line() {
        for (row, fault) in [
            ("GET /x viewer", "four fields"),
            ("GET /x everyone any", "need"),
            ("GET /x viewer some", "reach"),
            ("GET /x viewer stack", "{stack}"),
            ("GET /x viewer any\nGET /x admin any", "twice"),
        ] {
            let told = Rights::parse(row).unwrap_err().to_string();
            assert!(told.contains(fault), "{told}");
        }
    }

    #[test]
    fn what_has_no_row_has_no_right() {
        let rights = Rights::parse("GET /a viewer any").unwrap();
        assert!(rights.of("GET", "/a").is_some() && rights.of("HEAD", "/a").is_some());
        for (method, path) in [("POST", "/a"), ("GET", "/a/"), ("GET", "/b"), ("get", "/a"), ("OPTIONS", "/a")] {
            assert_eq!(rights.of(method, path), None, "{method} {path}");
        }
    }

    /// What the rules say, written down a second time and as dully as possible.
    fn reference(caller: Option<&(u8, bool, Option<Vec<String>>)>, need: u8, reach: u8, stack: &str) -> u16 {
        if need == 0 {
            return 200;
        }
        let Some((role, local, stacks)) = caller else { return 401 };
        if let Some(stacks) = stacks {
            let listed = stacks.iter().any(|listed| listed == stack);
            if !stacks.is_empty() && reach == 0 && !listed {
                return 404;
            }
            if stacks.is_empty() || reach == 3 {
                return 403;
            }
        }
        if need == 4 {
            return if *local { 200 } else { 403 };
        }
        if *role >= need { 200 } else { 403 }
    }

    /// Names of which many begin with one another.
    fn stack() -> impl Strategy<Value = String> {
        "(shop|sho|shop-)[-a2]{0,2}"
    }

    proptest! {
        #[test]
        fn the_authoriser_agrees_with_the_reference(
            caller in proptest::option::of((1_u8..=3, any::<bool>(), proptest::option::of(proptest::collection::vec(stack(), 0..4)))),
            need in 0_u8..=4, reach in 0_u8..=3, asked in stack(),
        ) {
            let role_of = |number| [Role::Viewer, Role::Operator, Role::Admin][usize::from(number - 1)];
            let real = caller.as_ref().map(|(role, local, stacks)| Caller {
                who: if *local { Who::Local } else { Who::Token { id: "000000000000".parse().unwrap(), name: "t".into() } },
                role: role_of(*role),
                scope: stacks.as_ref().map_or(Scope::Fleet, |stacks| Scope::Stacks(stacks.iter().cloned().collect())),
                expires_unix_ms: None,
            });
            let right = Right {
                need: match need { 0 => Need::Open, 4 => Need::Local, role => Need::Role(role_of(role)) },
                reach: [Reach::Stack, Reach::Part, Reach::Any, Reach::Fleet][usize::from(reach)],
            };
            let decided = match decide(real.as_ref(), right, Some(&asked)) {
                Verdict::Allowed => 200,
                Verdict::Unauthenticated => 401,
                Verdict::Forbidden => 403,
                Verdict::Hidden => 404,
            };
            prop_assert_eq!(decided, reference(caller.as_ref(), need, reach, &asked));
        }

        #[test]
        fn a_limited_token_sees_exactly_its_stacks(mine in proptest::collection::btree_set(stack(), 0..4), asked in stack()) {
            prop_assert_eq!(Scope::Stacks(mine.clone()).sees(Some(&asked)), mine.contains(&asked));
            prop_assert!(!Scope::Stacks(mine).sees(None));
        }
    }
}
