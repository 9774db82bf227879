//! What the hub can be asked: one function per route of its API.

use outrigger_api::{
    ApplyRequest, ApplyResponse, AuditCheck, AuditList, AuditQuery, CheckResponse, CodeApproval, CodeApproved, Device,
    DeviceChange, DeviceList, DevicesChange, EventList, EventQuery, Explanation, FileRequest, Fleet, Forgotten, Health,
    InviteCreated, InviteList, InviteRequest, LogsQuery, LossConfirmation, PasswordRequest, RegistryLogin,
    RegistryLoginList, RegistryLoginRequest, Removed, Replica, ReplicaList, ReplicaQuery, Restarted, ScaleRequest,
    ScaleResponse, Service, ServiceList, Session, SessionList, SetupRequest, Stack, StackList, StoredFile,
    StoredFileList, Token, TokenCreated, TokenList, TokenRequest, User, UserList, UserRequest, WaitingList, WhatIfLost,
    Whoami,
};
use serde_json::json;

use crate::Failure;
use crate::client::{Client, FileKind, Lines, Send};

/// The parts of `shop/web` as the routes take them: `shop`, `web`.
fn parts(name: &str) -> (&str, &str) {
    name.split_once('/').unwrap_or(("", name))
}

impl Client {
    pub(crate) fn apply_stack(&self, stack: &str, request: &ApplyRequest) -> Result<ApplyResponse, Failure> {
        self.send(Send::Put, &["v1", "stacks", stack], &(), request)
    }

    pub(crate) fn plan_stack(&self, stack: &str, request: &ApplyRequest) -> Result<ApplyResponse, Failure> {
        self.send(Send::Post, &["v1", "stacks", stack, "plan"], &(), request)
    }

    /// Without a name, the file must give one.
    pub(crate) fn check_compose(&self, name: Option<&str>, request: &ApplyRequest) -> Result<CheckResponse, Failure> {
        self.send(Send::Post, &["v1", "compose", "check"], &json!({ "name": name }), request)
    }

    pub(crate) fn stacks(&self) -> Result<StackList, Failure> {
        self.get(&["v1", "stacks"], &())
    }

    pub(crate) fn stack(&self, name: &str) -> Result<Stack, Failure> {
        self.get(&["v1", "stacks", name], &())
    }

    pub(crate) fn remove_stack(&self, name: &str) -> Result<Removed, Failure> {
        self.delete(&["v1", "stacks", name])
    }

    pub(crate) fn services(&self) -> Result<ServiceList, Failure> {
        self.get(&["v1", "services"], &())
    }

    pub(crate) fn service(&self, name: &str) -> Result<Service, Failure> {
        let (stack, service) = parts(name);
        self.get(&["v1", "services", stack, service], &())
    }

    pub(crate) fn scale_service(&self, name: &str, replicas: u32) -> Result<ScaleResponse, Failure> {
        let (stack, service) = parts(name);
        self.send(Send::Post, &["v1", "services", stack, service, "scale"], &(), &ScaleRequest { replicas })
    }

    pub(crate) fn restart_service(&self, name: &str) -> Result<Restarted, Failure> {
        let (stack, service) = parts(name);
        self.send(Send::Post, &["v1", "services", stack, service, "restart"], &(), &json!({}))
    }

    pub(crate) fn resume_service(&self, name: &str) -> Result<Service, Failure> {
        let (stack, service) = parts(name);
        self.send(Send::Post, &["v1", "services", stack, service, "resume"], &(), &json!({}))
    }

    pub(crate) fn explain_service(&self, name: &str) -> Result<Explanation, Failure> {
        let (stack, service) = parts(name);
        self.get(&["v1", "services", stack, service, "explain"], &())
    }

    /// The whole list, whatever pieces the hub gives it in.
    pub(crate) fn replicas(&self, query: &ReplicaQuery) -> Result<ReplicaList, Failure> {
        let mut query = query.clone();
        let mut replicas = Vec::new();
        loop {
            let page: ReplicaList = self.get(&["v1", "replicas"], &query)?;
            replicas.extend(page.replicas);
            // A hub that does not get on would otherwise be asked for ever.
            match page.next.filter(|next| query.after.as_ref() != Some(next)) {
                Some(next) => query.after = Some(next),
                None => return Ok(ReplicaList { replicas, next: None }),
            }
        }
    }

    pub(crate) fn replica(&self, name: &str) -> Result<Replica, Failure> {
        let (stack, replica) = parts(name);
        self.get(&["v1", "replicas", stack, replica], &())
    }

    pub(crate) fn explain_replica(&self, name: &str) -> Result<Explanation, Failure> {
        let (stack, replica) = parts(name);
        self.get(&["v1", "replicas", stack, replica, "explain"], &())
    }

    pub(crate) fn replica_logs(&self, name: &str, query: &LogsQuery) -> Result<Lines, Failure> {
        let (stack, replica) = parts(name);
        self.stream(&["v1", "replicas", stack, replica, "logs"], query)
    }

    pub(crate) fn devices(&self) -> Result<DeviceList, Failure> {
        self.get(&["v1", "devices"], &())
    }

    pub(crate) fn device(&self, name: &str) -> Result<Device, Failure> {
        self.get(&["v1", "devices", name], &())
    }

    pub(crate) fn change_device(&self, name: &str, change: &DeviceChange) -> Result<Device, Failure> {
        self.send(Send::Patch, &["v1", "devices", name], &(), change)
    }

    pub(crate) fn change_devices(&self, change: &DevicesChange) -> Result<DeviceList, Failure> {
        self.send(Send::Patch, &["v1", "devices"], &(), change)
    }

    pub(crate) fn what_if_lost(&self, name: &str) -> Result<WhatIfLost, Failure> {
        self.get(&["v1", "devices", name, "what-if-lost"], &())
    }

    pub(crate) fn remove_device(&self, name: &str) -> Result<Forgotten, Failure> {
        self.delete(&["v1", "devices", name])
    }

    pub(crate) fn confirm_loss(&self, devices: &[String]) -> Result<DeviceList, Failure> {
        let confirmation = LossConfirmation { devices: devices.to_vec() };
        self.send(Send::Post, &["v1", "fleet", "confirm-loss"], &(), &confirmation)
    }

    pub(crate) fn events(&self, query: &EventQuery) -> Result<EventList, Failure> {
        self.get(&["v1", "events"], query)
    }

    pub(crate) fn event_stream(&self, query: &EventQuery) -> Result<Lines, Failure> {
        self.stream(&["v1", "events", "stream"], query)
    }

    pub(crate) fn fleet(&self) -> Result<Fleet, Failure> {
        self.get(&["v1", "fleet"], &())
    }

    pub(crate) fn set_up(&self, request: &SetupRequest) -> Result<TokenCreated, Failure> {
        self.send(Send::Post, &["v1", "setup"], &(), request)
    }

    pub(crate) fn whoami(&self) -> Result<Whoami, Failure> {
        self.get(&["v1", "me"], &())
    }

    pub(crate) fn tokens(&self) -> Result<TokenList, Failure> {
        self.get(&["v1", "tokens"], &())
    }

    pub(crate) fn create_token(&self, request: &TokenRequest) -> Result<TokenCreated, Failure> {
        self.send(Send::Post, &["v1", "tokens"], &(), request)
    }

    pub(crate) fn revoke_token(&self, id: &str) -> Result<Token, Failure> {
        self.delete(&["v1", "tokens", id])
    }

    pub(crate) fn invites(&self) -> Result<InviteList, Failure> {
        self.get(&["v1", "invites"], &())
    }

    pub(crate) fn create_invite(&self, request: &InviteRequest) -> Result<InviteCreated, Failure> {
        self.send(Send::Post, &["v1", "invites"], &(), request)
    }

    pub(crate) fn revoke_invite(&self, id: &str) -> Result<InviteList, Failure> {
        self.delete(&["v1", "invites", id])
    }

    pub(crate) fn users(&self) -> Result<UserList, Failure> {
        self.get(&["v1", "users"], &())
    }

    pub(crate) fn create_user(&self, request: &UserRequest) -> Result<User, Failure> {
        self.send(Send::Post, &["v1", "users"], &(), request)
    }

    pub(crate) fn remove_user(&self, name: &str) -> Result<User, Failure> {
        self.delete(&["v1", "users", name])
    }

    pub(crate) fn set_password(&self, name: &str, request: &PasswordRequest) -> Result<User, Failure> {
        self.send(Send::Put, &["v1", "users", name, "password"], &(), request)
    }

    pub(crate) fn sessions(&self) -> Result<SessionList, Failure> {
        self.get(&["v1", "sessions"], &())
    }

    pub(crate) fn end_session(&self, id: &str) -> Result<Session, Failure> {
        self.delete(&["v1", "sessions", id])
    }

    pub(crate) fn waiting_devices(&self) -> Result<WaitingList, Failure> {
        self.get(&["v1", "join", "waiting"], &())
    }

    pub(crate) fn approve_code(&self, approval: &CodeApproval) -> Result<CodeApproved, Failure> {
        self.send(Send::Post, &["v1", "join", "approve"], &(), approval)
    }

    pub(crate) fn approve_device(&self, name: &str) -> Result<Device, Failure> {
        self.send(Send::Post, &["v1", "devices", name, "approve"], &(), &json!({}))
    }

    pub(crate) fn files(&self, kind: FileKind) -> Result<StoredFileList, Failure> {
        self.get(&["v1", kind.path()], &())
    }

    pub(crate) fn set_file(&self, kind: FileKind, name: &str, request: &FileRequest) -> Result<StoredFile, Failure> {
        self.send(Send::Put, &["v1", kind.path(), name], &(), request)
    }

    pub(crate) fn remove_file(&self, kind: FileKind, name: &str) -> Result<StoredFile, Failure> {
        self.delete(&["v1", kind.path(), name])
    }

    pub(crate) fn logins(&self) -> Result<RegistryLoginList, Failure> {
        self.get(&["v1", "registries"], &())
    }

    pub(crate) fn set_login(&self, registry: &str, request: &RegistryLoginRequest) -> Result<RegistryLogin, Failure> {
        self.send(Send::Put, &["v1", "registries", registry], &(), request)
    }

    pub(crate) fn remove_login(&self, registry: &str) -> Result<RegistryLogin, Failure> {
        self.delete(&["v1", "registries", registry])
    }

    pub(crate) fn audit(&self, query: &AuditQuery) -> Result<AuditList, Failure> {
        self.get(&["v1", "audit"], query)
    }

    pub(crate) fn check_audit(&self) -> Result<AuditCheck, Failure> {
        self.get(&["v1", "audit", "check"], &())
    }

    pub(crate) fn health(&self) -> Result<Health, Failure> {
        self.get_whatever_status(&["readyz"])
    }
}
