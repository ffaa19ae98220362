//! Clients that users have, as real programs against the built broker.
//!
//! Rust's lapin and amqprs run in these tests themselves (`rust`); pika, aio-pika, kombu with Celery, amqplib,
//! rabbitmq-client, amqp091-go and RabbitMQ's Java client run as processes of their own (`foreign`), and by AMQP 1.0
//! Qpid Proton, rhea, Azure's go-amqp, fe2o3-amqp, Qpid JMS and RabbitMQ's clients for Java and Python; their programs
//! lie beside this file, a folder a language. rabbitmq-c's are the tools of Debian (`tools`). The expectations hold
//! for RabbitMQ 4.3 as well, as far as it has what is tested: with `LEVERET_TEST_ADDRESS=host:port` the same tests ask
//! a broker that runs there, but for those in which the broker fails (`outage`) or says that it is RabbitMQ.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod foreign;
mod outage;
mod rust;
mod tools;
