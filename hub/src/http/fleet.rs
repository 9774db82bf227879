//! Looks and wishes that several routes share, with their problems.

use std::sync::Arc;

use outrigger_api::{Problem, ProblemKind};
use outrigger_planner::{Fleet, Refusal, Wish};
use outrigger_protocol::Moment;
use tokio::sync::OwnedSemaphorePermit;

use super::Api;
use super::problem::Refused;
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

    /// A place for one live stream, held as long as it lasts.
    pub(super) fn stream_place(&self) -> Result<OwnedSemaphorePermit, Refused> {
        Arc::clone(&self.streams).try_acquire_owned().map_err(|_| {
            Problem::new(ProblemKind::TooMany, "too many live streams are open")
                .with_hint("close one and try again")
                .into()
        })
    }
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
            | Refusal::NetworkDiffers { .. }
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
