//! Looks and wishes that several routes share, with their problems.

use std::sync::Arc;

use outrigger_api::{Problem, ProblemKind};
use outrigger_planner::{Fleet, Refusal, Wish};
use outrigger_protocol::{Moment, StackName, StackSpec};
use tokio::sync::OwnedSemaphorePermit;

use super::Api;
use super::problem::Refused;
use crate::access::Scope;
use crate::core::WishError;
use crate::handle::{HubError, Stopping};

impl Api {
    /// Copies something out of the fleet.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Fleet, Moment) -> T + Send + 'static,
    ) -> Result<T, Refused> {
        Ok(self.hub.view(move |core, now| look(core.fleet(), now)).await?)
    }

    /// Asks for something; when it returns, it is durable and counts.
    pub(super) async fn wish(&self, wish: Wish) -> Result<(), Refused> {
        Ok(self.hub.wish(wish).await?)
    }

    /// The same, for a caller who may not know of all stacks.
    pub(super) async fn wish_for(&self, scope: &Scope, wish: Wish) -> Result<(), Refused> {
        match self.hub.wish(wish).await {
            Err(HubError::Wish(WishError::Refused(refusal))) => Err(told_to(scope, refusal)),
            answer => Ok(answer?),
        }
    }

    /// A place for one live stream, held as long as it lasts.
    pub(super) fn stream_place(&self) -> Result<OwnedSemaphorePermit, Refused> {
        Arc::clone(&self.streams).try_acquire_owned().map_err(|_| {
            Problem::new(ProblemKind::TooMany, "too many live streams are open")
                .with_hint("close one and try again")
                .into()
        })
    }
}

/// What is refused because of a stack that the caller may not know of is told without its name.
pub(super) fn told_to(scope: &Scope, refusal: Refusal) -> Refused {
    let is_hidden = |stack: &StackName| !scope.sees(Some(stack.as_str()));
    let text = match &refusal {
        Refusal::PortTaken { service, port, protocol, by } if is_hidden(&by.stack) => {
            format!("`{service}` cannot publish port {port}/{protocol}: a service of another stack has it")
        }
        Refusal::NetworkTaken { network, stack } if is_hidden(stack) => {
            format!("the network `{network}` is another stack's; give yours another name")
        }
        Refusal::NetworkInUse { network, service } if is_hidden(&service.stack) => {
            format!("the network `{network}` cannot be changed while a service of another stack is in it")
        }
        Refusal::NetworkLent { network, to, .. } if is_hidden(&to.stack) => {
            format!("the network `{network}` is lent to a service of another stack, which must go first")
        }
        _ => return refusal.into(),
    };
    Problem::new(ProblemKind::Conflict, text).into()
}

/// Who is limited to some stacks joins the networks of these only: of others he is told that they are not there.
pub(super) fn check_borrowed(scope: &Scope, fleet: &Fleet, stack: &StackSpec) -> Result<(), Refusal> {
    let borrowed = fleet.borrowed_networks(stack);
    let hidden = borrowed.into_iter().find(|(_, _, by)| !scope.sees(Some(by.as_str())));
    hidden.map_or(Ok(()), |(service, network, _)| Err(Refusal::NoNetwork { service, network }))
}

impl From<Stopping> for Refused {
    fn from(_: Stopping) -> Self {
        Problem::new(ProblemKind::Unavailable, "the hub is stopping").with_hint("try again when it is back").into()
    }
}

impl From<HubError> for Refused {
    fn from(error: HubError) -> Self {
        match error {
            HubError::Stopping(stopping) => stopping.into(),
            HubError::Wish(WishError::Refused(refusal)) => refusal.into(),
            HubError::Wish(WishError::ReadOnly(reason)) => {
                Problem::new(ProblemKind::Storage, "the hub cannot save, so nothing was changed")
                    .with_detail(reason)
                    .with_hint("what runs goes on; make room or repair the disk under the hub's state directory")
                    .into()
            }
            HubError::Wish(error @ WishError::TooMany) => Problem::new(ProblemKind::TooMany, error.to_string()).into(),
        }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let kind = match &refusal {
            Refusal::NoStack(_)
            | Refusal::NoService(_)
            | Refusal::NoDevice(_)
            | Refusal::NoDevices(_)
            | Refusal::NoCopy(_) => ProblemKind::NotFound,
            Refusal::Global(_) | Refusal::NotPaused(_) | Refusal::Connected(_) => ProblemKind::Conflict,
            Refusal::NoNetwork { .. }
            | Refusal::NetworkTaken { .. }
            | Refusal::NetworkInUse { .. }
            | Refusal::NetworkLent { .. }
            | Refusal::PortTaken { .. } => ProblemKind::Conflict,
            Refusal::TooMany { .. } | Refusal::Twice { .. } | Refusal::Depends { .. } => ProblemKind::Malformed,
        };
        Problem::new(kind, refusal.to_string()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(error: WishError) -> Problem {
        *Refused::from(HubError::Wish(error)).0
    }

    #[test]
    fn a_store_that_cannot_save_is_told_as_such_with_its_reason() {
        let problem = problem(WishError::ReadOnly("no space left on device".into()));
        assert_eq!((problem.kind, problem.status), (ProblemKind::Storage, 500));
        assert_eq!(problem.detail.as_deref(), Some("no space left on device"));
        assert!(problem.hint.unwrap().contains("make room"));
    }

    #[test]
    fn a_refusal_is_the_kind_of_problem_that_a_client_can_act_on() {
        let device = "pi".parse().unwrap();
        assert_eq!(problem(WishError::Refused(Refusal::NoDevice(device))).kind, ProblemKind::NotFound);
        let service = "shop/web".parse().unwrap();
        assert_eq!(problem(WishError::Refused(Refusal::Global(service))).kind, ProblemKind::Conflict);
    }
}
