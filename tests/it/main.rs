//! Tests without a broker: the engine's pure parts and everything that virtual time can drive.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod cloudevents_binding;
mod cloudevents_round_trip;
mod dead_letters_keep_the_record;
mod dev_once;
mod examples_hold;
mod filters_follow_knative;
mod keda_is_told_what_it_asks;
mod keys_and_times;
mod layers;
mod malformed_records_are_poison;
mod metadata_stay_within_bounds;
mod mutated_records;
mod new_functions_build_and_pass;
mod outages_are_no_results_fault;
mod outputs_are_all_or_nothing;
mod outputs_name_their_origin;
mod plugin;
mod readme;
mod redriven_events_are_what_they_were;
mod results_that_wait_keep_their_order;
mod sampled_events_carry_their_span;
mod scaling_beats_published_rules;
mod scene;
mod scripts;
mod state_follows_a_plain_model;
mod state_of_version_1_is_read;
mod stitches_follow_a_plain_model;
mod untouched_events_pass_through;
mod watched_metrics_exist;
mod windows_follow_a_plain_model;
mod windows_follow_the_rules;
