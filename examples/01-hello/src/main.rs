//! Publishes one message and consumes it.
//!
//! ```text
//! cargo run --release                      # the broker, in one terminal
//! cargo run -p example-01-hello            # this, in another
//! AMQP_URL=amqp://user:password@host:5672/%2f cargo run -p example-01-hello
//! ```
//!
//! Nothing here is Leveret's: lapin is a client for any AMQP 0-9-1 broker.

use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url =
        std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned());
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;

    // A queue of our own: the broker picks its name and deletes it when the connection closes.
    let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let queue = channel.queue_declare("".into(), exclusive, FieldTable::default()).await?.name().clone();

    // All greetings, whatever their language: `*` stands for one word.
    let bind = QueueBindOptions::default();
    channel
        .queue_bind(queue.clone(), "amq.topic".into(), "greeting.*".into(), bind, FieldTable::default())
        .await?;

    // With confirms on, the broker says when it has taken a message.
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let publish = BasicPublishOptions::default();
    let properties = BasicProperties::default().with_content_type("text/plain".into());
    let confirm = channel
        .basic_publish("amq.topic".into(), "greeting.english".into(), publish, b"Hello!", properties)
        .await?
        .await?;
    println!("published, and confirmed: {}", confirm.is_ack());

    let consume = BasicConsumeOptions::default();
    let mut messages = channel.basic_consume(queue, "".into(), consume, FieldTable::default()).await?;
    let message = messages.next().await.ok_or("the broker cancelled the consumer")??;
    println!(
        "consumed {:?}, sent with the key {:?}",
        String::from_utf8_lossy(&message.data),
        message.routing_key.as_str()
    );
    message.ack(BasicAckOptions::default()).await?;

    connection.close(200, "goodbye".into()).await?;
    Ok(())
}
