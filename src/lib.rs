//! Tidemill: a Kafka-native stream function processor.
