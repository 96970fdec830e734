//! The answer to a transaction: as etcdctl prints it, or as one object.

use serde_json::{Map, Value, json};
use synod_store::{KeyValue, LeaseId, TxnOpResponse, TxnResponse};

use crate::output::insert_bytes;

/// etcdctl's text, without the last newline.
pub(super) fn text(response: &TxnResponse) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = vec![if response.succeeded {
        b"SUCCESS".to_vec()
    } else {
        b"FAILURE".to_vec()
    }];
    for answer in &response.responses {
        lines.push(Vec::new());
        op_lines(answer, &mut lines);
    }
    lines.join(&b'\n')
}

fn op_lines(answer: &TxnOpResponse, lines: &mut Vec<Vec<u8>>) {
    let pairs: &[KeyValue] = match answer {
        TxnOpResponse::Range(range) => &range.kvs,
        TxnOpResponse::Put(put) => {
            lines.push(b"OK".to_vec());
            put.prev_kv.as_slice()
        }
        TxnOpResponse::Delete(delete) => {
            lines.push(delete.deleted.to_string().into_bytes());
            &delete.prev_kvs
        }
        TxnOpResponse::Txn(_) => &[],
    };
    for kv in pairs {
        lines.push(kv.key.to_vec());
        lines.push(kv.value.to_vec());
    }
}

/// The same and more, as fields.
pub(super) fn fields(response: &TxnResponse) -> Value {
    json!({
        "succeeded": response.succeeded,
        "revision": response.header.revision.0,
        "responses": response.responses.iter().map(op_fields).collect::<Vec<_>>(),
    })
}

fn op_fields(answer: &TxnOpResponse) -> Value {
    match answer {
        TxnOpResponse::Range(range) => json!({
            "get": range.kvs.iter().map(pair_fields).collect::<Vec<_>>(),
            "count": range.count,
            "more": range.more,
        }),
        TxnOpResponse::Put(put) => {
            json!({ "put": true, "prev": put.prev_kv.as_ref().map(pair_fields) })
        }
        TxnOpResponse::Delete(delete) => json!({
            "deleted": delete.deleted,
            "prev": delete.prev_kvs.iter().map(pair_fields).collect::<Vec<_>>(),
        }),
        TxnOpResponse::Txn(inner) => fields(inner),
    }
}

fn pair_fields(kv: &KeyValue) -> Value {
    let mut object = Map::new();
    insert_bytes(&mut object, "key", &kv.key);
    insert_bytes(&mut object, "value", &kv.value);
    object.insert("create_revision".into(), kv.create_revision.0.into());
    object.insert("mod_revision".into(), kv.mod_revision.0.into());
    object.insert("version".into(), kv.version.into());
    let lease = kv.lease.map(|lease: LeaseId| lease.to_string());
    object.insert("lease".into(), lease.into());
    Value::Object(object)
}
