//! The secrets and configs of a stack that is being applied: what its file defines is kept, what is `external` must be there,
//! and each is given its newest version.

use std::collections::{BTreeMap, BTreeSet};

use outrigger_compose::StackFile;
use outrigger_protocol::{FileKind, FileName, FileRef, StackName, StackSpec};
use thiserror::Error;

use super::{Content, New, SecretProblem, Secrets, Shelf};

/// Why a stack cannot have its secrets.
#[derive(Debug, Error)]
pub enum StackFileProblem {
    /// One of its own.
    #[error(transparent)]
    Own(#[from] SecretProblem),
    /// One that should be there.
    #[error("there is no {kind} `{name}`, which the file calls `external`")]
    Missing {
        /// What.
        kind: FileKind,
        /// Which.
        name: FileName,
    },
    /// One that the caller may not use.
    #[error("the {kind} `{name}` is not this stack's, and whoever applies it is limited to some stacks")]
    Foreign {
        /// What.
        kind: FileKind,
        /// Which.
        name: FileName,
    },
}

/// On whose behalf a stack gets its secrets.
pub(crate) struct ForStack<'a> {
    /// What its file defines.
    pub given: &'a [StackFile],
    /// Secrets and configs that its services use already.
    pub used: BTreeSet<(FileKind, FileName)>,
    /// Whether the caller may use what is not the stack's own. Who is limited to some stacks could read the secrets of
    /// others otherwise, with a container of his own.
    pub may_use_all: bool,
    /// Who.
    pub by: &'a str,
    /// When.
    pub now_unix_ms: u64,
    /// Whether nothing is to change: what would be new gets the version that it would have.
    pub is_trial: bool,
}

impl Secrets {
    /// Puts the newest versions into a stack, and keeps what its file defines. Returns what has a new content.
    pub(crate) async fn give(
        &self,
        stack: &mut StackSpec,
        for_whom: ForStack<'_>,
    ) -> Result<Vec<FileRef>, StackFileProblem> {
        let mut versions: BTreeMap<(FileKind, FileName), u64> = BTreeMap::new();
        let mut changed = Vec::new();
        let mounts = stack.services.iter().flat_map(|service| &service.container.files);
        let named: BTreeSet<_> = mounts.map(|mount| (mount.file.kind, mount.file.name.clone())).collect();
        for (kind, name) in named {
            let own = for_whom.given.iter().find(|one| (one.kind, &one.name) == (kind, &name));
            let version = match own.and_then(|own| own.content.as_ref()) {
                Some(bytes) => {
                    let content = Content(bytes.0.clone().into());
                    let (version, is_new) = self.give_own(&stack.name, kind, &name, &content, &for_whom).await?;
                    changed.extend(is_new.then(|| FileRef { kind, name: name.clone(), version }));
                    version
                }
                None => self.give_external(&stack.name, kind, &name, &for_whom)?,
            };
            versions.insert((kind, name), version);
        }
        for mount in stack.services.iter_mut().flat_map(|service| &mut service.container.files) {
            let file = &mut mount.file;
            file.version = versions.get(&(file.kind, file.name.clone())).copied().unwrap_or_default();
        }
        Ok(changed)
    }

    /// The version of what the file defines, and whether its content is a new one.
    async fn give_own(
        &self,
        stack: &StackName,
        kind: FileKind,
        name: &FileName,
        content: &Content,
        for_whom: &ForStack<'_>,
    ) -> Result<(u64, bool), StackFileProblem> {
        let _alone = self.inner.changing.lock().await;
        let new = New {
            shelf: Shelf::Files(kind),
            name: name.as_str(),
            content,
            stack: Some(stack),
            about: "",
            by: for_whom.by,
            now_unix_ms: for_whom.now_unix_ms,
        };
        let newest = self.newest(kind, name.as_str());
        if let Some((version, Some(owner))) = &newest
            && owner == stack
            && self.content(&FileRef { kind, name: name.clone(), version: *version }).is_ok_and(|same| same == *content)
        {
            return Ok((*version, false));
        }
        let foreign = || StackFileProblem::Foreign { kind, name: name.clone() };
        if !for_whom.may_use_all && !is_of(stack, name) {
            // The same whether there is one or not, and whoever it belongs to.
            return Err(foreign());
        }
        let told = |problem| match problem {
            SecretProblem::Owner { .. } | SecretProblem::Twin { .. } if !for_whom.may_use_all => foreign(),
            other => other.into(),
        };
        if for_whom.is_trial {
            self.check(&new, &self.kept()).map_err(told)?;
            return Ok((for_whom.now_unix_ms.max(newest.map_or(0, |(newest, _)| newest + 1)), true));
        }
        Ok((self.set_alone(new).await.map_err(told)?, true))
    }

    fn give_external(
        &self,
        stack: &StackName,
        kind: FileKind,
        name: &FileName,
        for_whom: &ForStack<'_>,
    ) -> Result<u64, StackFileProblem> {
        let is_used = for_whom.used.contains(&(kind, name.clone()));
        let found = self.newest(kind, name.as_str());
        let is_own = found.as_ref().is_some_and(|(_, owner)| owner.as_ref() == Some(stack));
        if !for_whom.may_use_all && !is_used && !is_own {
            // The same whether there is one or not.
            return Err(StackFileProblem::Foreign { kind, name: name.clone() });
        }
        let missing = || StackFileProblem::Missing { kind, name: name.clone() };
        found.map(|(version, _)| version).ok_or_else(missing)
    }
}

/// Whether a name is one that Compose gives to what this stack defines.
fn is_of(stack: &StackName, name: &FileName) -> bool {
    name.as_str().strip_prefix(stack.as_str()).is_some_and(|rest| rest.starts_with('_'))
}
