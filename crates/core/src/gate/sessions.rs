//! What a backend may do with the sessions of its users.

use bytes::Bytes;

use super::{Admitted, Caller, Follow, Gate, Rights, admitted, bounds};
use crate::command::Subscribe;
use crate::position::Claimed;
use crate::refusal::{Code, Refusal};

impl Gate {
    /// May a backend make sessions follow this channel? Whose sessions they are makes no difference: the backend decides for its users.
    ///
    /// # Errors
    /// 102, 103 for clients and reserved channels, 107.
    pub fn place(
        &self,
        mut caller: Caller<'_>,
        channel: &str,
        recover: Option<Claimed>,
        data: Option<Bytes>,
    ) -> Result<Admitted<Follow>, Refusal> {
        let name = bounds::channel(channel)?;
        if !caller.principal.is_backend() || name.is_reserved() {
            return Err(Code::PermissionDenied.into());
        }
        if !bounds::given(data.as_ref(), crate::limits::HOOK_DATA_BYTES_MAX) {
            return Err(Refusal::because(Code::BadRequest, "data is too large or too deep"));
        }
        let policy = self.admit(&mut caller, &name, Rights::SUBSCRIBE)?;
        let asked = Subscribe { channel: channel.to_owned(), recover, ..Subscribe::default() };
        let follow = Follow { asked, data, ..Follow::default() };
        Ok(admitted(follow, name, policy, caller.principal))
    }

    /// When a session that a backend prolongs is over, in Unix ms.
    ///
    /// # Errors
    /// 107: it would be over already, later than a token may be, or never though every session must end.
    pub fn end_of_session(&self, expires_s: Option<u64>, now_ms: u64) -> Result<Option<u64>, Refusal> {
        let bad = |why: String| Err(Refusal::because(Code::BadRequest, why));
        let rules = self.rules();
        let Some(end_s) = expires_s else {
            return match rules.exp_required {
                true => bad("expire_at is missing: a session without an end is not allowed".to_owned()),
                false => Ok(None),
            };
        };
        let now_s = now_ms / 1000;
        if end_s <= now_s {
            return bad("expire_at is in the past: expired ends a session now".to_owned());
        }
        if end_s - now_s > rules.lifetime_s_max {
            return bad(format!("expire_at is at most {} s from now", rules.lifetime_s_max));
        }
        Ok(Some(end_s.saturating_mul(1000)))
    }
}
