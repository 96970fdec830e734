//! [`Clients`]: the connections of a process's workers.

use synod::Client;

use super::spec::Connections;
use crate::way::Way;

/// Makes the clients of workers.
pub(crate) struct Clients {
    way: Way,
    connections: Connections,
    first: Client,
    /// Those that were made, to be closed.
    own: Vec<Client>,
}

impl Clients {
    pub(crate) fn new(way: Way, connections: Connections, first: Client) -> Clients {
        Clients {
            way,
            connections,
            first,
            own: Vec::new(),
        }
    }

    /// The client of one more worker.
    pub(crate) async fn next(&mut self) -> synod::Result<Client> {
        if self.connections == Connections::Shared {
            return Ok(self.first.clone());
        }
        let client = if self.way.is_embedded() {
            // There is one store, and no connection: a client of its own shares nothing else.
            self.way.settings().over(self.first.store().clone())
        } else {
            self.way.options().connect().await?
        };
        self.own.push(client.clone());
        Ok(client)
    }

    /// Ends the workers' own clients in good order.
    pub(crate) async fn close(self) {
        let closing = self.own.into_iter().map(Client::close);
        futures_util::future::join_all(closing).await;
    }
}
