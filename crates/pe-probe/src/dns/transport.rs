//! Getting a query to a server and its response back, over UDP, TCP and TLS.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::message::{NotOurs, Question, Response};
use crate::datagram::{Datagrams, last_word};
use crate::tls::TlsClient;
use crate::{Asked, Failure, Phase, Reason, connect, socket_failure, timed};

/// A query to one server.
pub(super) struct Query<'a> {
    pub(super) asked: &'a Asked<'a>,
    pub(super) server: SocketAddr,
    pub(super) question: &'a Question,
}

/// A response, and how long it took.
pub(super) struct Answered {
    pub(super) response: Response,
    pub(super) connect: Option<Duration>,
    pub(super) tls: Option<Duration>,
    pub(super) request: Duration,
}

impl Query<'_> {
    pub(super) async fn over_udp(&self) -> Result<Answered, Failure> {
        let asked = self.asked;
        asked.enter(Phase::Answer);
        let id = fastrand::u16(..);
        let datagrams = Datagrams::new(self.server).await?;
        let sent = datagrams.send(&self.question.encode(id)).await?;
        let mut ignored = None;
        let wait = async {
            loop {
                let received = datagrams.receive().await?;
                match Response::read(&received.bytes, self.question, id) {
                    Ok(response) => {
                        return Ok(Answered {
                            response,
                            connect: None,
                            tls: None,
                            request: received.since(sent),
                        });
                    }
                    Err(not_ours) => ignored = Some(not_ours),
                }
            }
        };
        let answered = tokio::time::timeout_at(last_word(asked.deadline), wait).await;
        answered.unwrap_or_else(|_| {
            Err(match ignored {
                Some(not_ours) => failure(not_ours),
                None => Phase::Answer.timeout(),
            })
        })
    }

    pub(super) async fn over_tcp(&self) -> Result<Answered, Failure> {
        self.asked.enter(Phase::Connect);
        let mut connected = connect(self.server).await?;
        let (response, request) = self.exchange(&mut connected.stream).await?;
        Ok(Answered {
            response,
            connect: Some(connected.took),
            tls: None,
            request,
        })
    }

    pub(super) async fn over_tls(&self, client: &TlsClient) -> Result<Answered, Failure> {
        let asked = self.asked;
        asked.enter(Phase::Connect);
        let connected = connect(self.server).await?;
        let mut secured = client
            .secure(asked, connected.stream, &asked.host())
            .await?;
        let (response, request) = self.exchange(&mut secured.stream).await?;
        Ok(Answered {
            response,
            connect: Some(connected.took),
            tls: Some(secured.took),
            request,
        })
    }

    /// Asks on a connection, where each message follows its length (RFC 1035, section 4.2.2).
    async fn exchange(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin + Send),
    ) -> Result<(Response, Duration), Failure> {
        self.asked.enter(Phase::Answer);
        let id = fastrand::u16(..);
        let query = self.question.encode(id);
        let length = u16::try_from(query.len()).unwrap_or(u16::MAX);
        let framed = [&length.to_be_bytes()[..], &query].concat();
        let start = Instant::now();
        let broken = |error| socket_failure(&error, false);
        stream.write_all(&framed).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        let length = stream.read_u16().await.map_err(broken)?;
        self.asked.enter(Phase::Transfer);
        let mut bytes = vec![0; length.into()];
        let read = timed(stream.read_exact(&mut bytes)).await;
        read.output.map_err(broken)?;
        // What anybody else says cannot get into a connection.
        let response = Response::read(&bytes, self.question, id).map_err(failure)?;
        Ok((response, read.at.saturating_duration_since(start)))
    }
}

fn failure(not_ours: NotOurs) -> Failure {
    let reason = match not_ours {
        NotOurs::Id => Reason::WrongId,
        NotOurs::Question => Reason::WrongQuestion,
        NotOurs::Query | NotOurs::Malformed => Reason::Protocol,
    };
    Failure::new(reason, not_ours.to_string())
}
