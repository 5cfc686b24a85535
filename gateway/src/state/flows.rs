//! Flow records: every connection on the tailnet, allowed or not. The oldest go when there are too many.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::{QueryBuilder, Row, Sqlite};

use super::{State, StateError, counter, moment, signed};

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// The device's public key.
    pub device: String,
    /// `tcp`, `udp` …
    pub protocol: String,
    /// The caller's address and port.
    pub source: String,
    /// Where it went.
    pub destination: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Bytes from the device.
    pub rx_bytes: u64,
    /// Bytes to the device.
    pub tx_bytes: u64,
    /// Packets from the device.
    pub rx_packets: u64,
    /// Packets to the device.
    pub tx_packets: u64,
    /// The session that it became.
    pub session: Option<String>,
    /// Why it was denied.
    pub denied: Option<String>,
}

impl State {
    /// Keeps a batch of flows and, of all, the newest `keep`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn add_flows(&self, flows: &[Flow], keep: u32) -> Result<(), StateError> {
        let mut change = self.begin().await?;
        for batch in flows.chunks(BATCH) {
            let mut query = QueryBuilder::<Sqlite>::new(
                "INSERT INTO flows (device, protocol, source, destination, started, ended,
                 rx_bytes, tx_bytes, rx_packets, tx_packets, session, denied) ",
            );
            query.push_values(batch, |mut row, flow| {
                row.push_bind(&flow.device)
                    .push_bind(&flow.protocol)
                    .push_bind(&flow.source)
                    .push_bind(&flow.destination)
                    .push_bind(flow.started.as_millisecond())
                    .push_bind(flow.ended.as_millisecond())
                    .push_bind(signed(flow.rx_bytes))
                    .push_bind(signed(flow.tx_bytes))
                    .push_bind(signed(flow.rx_packets))
                    .push_bind(signed(flow.tx_packets))
                    .push_bind(&flow.session)
                    .push_bind(&flow.denied);
            });
            query.build().execute(&mut *change).await?;
        }
        // Ids only grow, so the newest are the highest.
        sqlx::query("DELETE FROM flows WHERE id <= (SELECT max(id) FROM flows) - ?1")
            .bind(i64::from(keep))
            .execute(&mut *change)
            .await?;
        Ok(change.commit().await?)
    }

    /// The latest flows, the newest first; only those of `device` (a public key) if given.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn flows(&self, device: Option<&str>, limit: u32) -> Result<Vec<Flow>, StateError> {
        let rows =
            sqlx::query("SELECT * FROM flows WHERE ?1 IS NULL OR device = ?1 ORDER BY started DESC, id DESC LIMIT ?2")
                .bind(device)
                .bind(i64::from(limit))
                .fetch_all(&self.pool)
                .await?;
        let flow = |row: &sqlx::sqlite::SqliteRow| {
            Ok(Flow {
                device: row.try_get("device")?,
                protocol: row.try_get("protocol")?,
                source: row.try_get("source")?,
                destination: row.try_get("destination")?,
                started: moment(row, "started")?,
                ended: moment(row, "ended")?,
                rx_bytes: counter(row, "rx_bytes")?,
                tx_bytes: counter(row, "tx_bytes")?,
                rx_packets: counter(row, "rx_packets")?,
                tx_packets: counter(row, "tx_packets")?,
                session: row.try_get("session")?,
                denied: row.try_get("denied")?,
            })
        };
        rows.iter().map(flow).collect()
    }
}

/// Rows in one statement: SQLite takes 32,766 parameters, and a row has 12.
const BATCH: usize = 1000;
