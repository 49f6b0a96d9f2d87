"""What goes wrong on the way to storage (M), with money (B), with callers (A) and in operation (O)."""

from __future__ import annotations

from tests.proofs.rows import row

_NO_LEDGER = "Reelkeeper holds no money and no balances: it hands on what the provider says a job cost."

LOSSES = (
    # The way to storage
    row(
        "M1",
        "the address of the video is no longer good when it is fetched",
        "providers/openrouter_reports: an_expired_url_and_a_missing_one_are_not_tried",
        "workers/mirror: a_poll_is_asked_for_other_places_from_the_second_failure_on",
        "workers/poller: polls_come_before_submissions_and_after_downloads_when_the_pace_is_short",
        "story/behaviours: a_signed_link_is_used_when_the_providers_own_address_has_lost_the_output",
    ),
    row(
        "M2",
        "we die in the middle of a copy",
        "proofs/kills: a_job_survives_a_kill",
        "storage: a_killed_process_publishes_nothing_and_the_next_put_succeeds",
        "workers/copying: a_repeated_copy_replaces_the_first",
    ),
    row(
        "M3",
        "the video breaks off",
        "workers/copying: a_video_that_is_shorter_than_announced_is_refused",
        "outbound: a_body_that_breaks_off_is_an_error_and_not_a_short_video",
        "storage: a_source_that_fails_leaves_nothing_and_its_error_comes_out_unchanged",
    ),
    row(
        "M4",
        "a web page, an error or nothing comes with the status of a video",
        "workers/copying: what_is_not_a_video_is_refused_by_what_it_is",
        "story/behaviours: a_job_ends_as_it_should_whatever_the_provider_does",
    ),
    row(
        "M5",
        "a video was cut before it was sent, and its length agrees",
        "workers/copying: a_video_that_was_cut_is_refused_although_its_length_agrees",
        "containers: every_cut_of_an_mp4_is_refused",
        "containers: every_cut_of_a_webm_is_refused",
    ),
    row(
        "M6",
        "a fault of our storage ends a job that was paid for",
        "workers/mirror_storage: a_fault_of_our_storage_never_ends_a_job",
        "story/outages: a_job_waits_for_storage_however_long_it_is_away",
        "workers/mirror: a_job_that_was_given_up_is_copied_when_an_operator_wants_it",
    ),
    row(
        "M7",
        "a video without an end, or one that comes in drops, takes all memory or a place for ever",
        "workers/copying: an_endless_video_is_cut_at_the_limit",
        "story/behaviours: an_endless_output_is_cut_off_at_the_limit",
        "outbound: a_body_that_trickles_is_cut_in_the_end",
        "outbound: a_download_in_drops_is_cut_off",
        "proofs/outbound_proof: strangers_lead_the_service_nowhere_and_what_they_answer_is_cut",
    ),
    row(
        "M8",
        "an address, a redirect or a name leads into our own network",
        "outbound: addresses_that_are_not_public_are_known",
        "outbound: a_redirect_into_the_private_network_is_refused",
        "proofs/outbound_proof: strangers_lead_the_service_nowhere_and_what_they_answer_is_cut",
        why_not="Providers' hosts are not listed: a video may come from any public address, without our key.",
    ),
    row(
        "M9",
        "the provider's key is sent to somebody else",
        "outbound: credentials_never_leave_the_origin_and_do_not_come_back_with_it",
        "story/behaviours: a_redirect_takes_the_download_to_another_origin_without_the_key",
    ),
    row(
        "M10",
        "the bucket is full, forbids, fails or is slow",
        "storage_faults: a_bucket_that_fails_shows_nothing_says_what_to_do_and_is_used_again",
        "storage_faults: a_full_disk_shows_nothing_keeps_what_was_there_and_is_used_again",
        "workers/mirror_storage: a_fault_of_our_storage_never_ends_a_job",
        why_not="Nothing is kept aside on a local disk: the provider keeps the video until it is copied.",
    ),
    row(
        "M11",
        "other bytes are stored than were sent",
        "storage_faults: every_part_says_its_own_hash_under_its_signature",
        "storage_faults: a_part_that_is_altered_on_the_way_is_refused",
        "storage_faults: a_check_sees_what_is_altered_on_the_way",
        "storage: a_storage_that_keeps_fewer_bytes_than_it_took_is_not_believed",
        why_not="Who compares is the bucket. One that does not look at the hash in a signature, as S3 does, looks at "
        "the one that AWS_CHECKSUM_ALGORITHM=SHA256 adds.",
    ),
    row(
        "M12",
        "of several videos of one job one cannot be copied",
        "workers/mirror: one_bad_output_keeps_no_other_back_and_what_was_kept_is_not_fetched_again",
        "store/adoption: a_job_is_complete_when_every_output_has_its_artifact",
    ),
    # Money
    row("B1", "a job is charged when it is made, and fails", why_not=_NO_LEDGER),
    row("B2", "a job is refunded when it times out, and the provider bills it", why_not=_NO_LEDGER),
    row("B3", "a job is settled or refunded twice", why_not=_NO_LEDGER),
    row("B4", "the books say refunded, and nothing was", why_not=_NO_LEDGER),
    row("B5", "a price that is not known counts as nothing", why_not=_NO_LEDGER),
    # Callers
    row(
        "A1",
        "a job of somebody else can be read",
        "web/jobs: a_job_of_somebody_else_is_answered_like_none_at_all",
        "web/openai_videos: another_tenants_video_is_none",
        "web/openrouter_face: a_job_of_any_face_is_readable_and_no_other_tenants",
        "store/callers: another_tenants_job_is_not_there",
    ),
    row(
        "A2",
        "a job's state and the provider's own word for it contradict each other",
        "web/jobs: a_kept_video_reads_as_documented_and_shows_no_address_at_the_provider",
        "web/openai_forms: every_state_is_one_of_four_words",
        "web/openrouter_forms: every_state_is_one_of_the_dialects_words",
    ),
    row(
        "A3",
        "the message to the caller is lost",
        "store/deliveries: the_end_of_a_job_and_what_is_owed_of_it_are_one_transaction",
        "workers/notifier: whoever_never_answers_is_told_nine_times_in_more_than_a_day",
        "workers/notifier: a_message_is_sent_again_on_demand_as_a_new_attempt",
        "web/deliveries: a_native_delivery_shows_the_job_as_the_api_does",
        "proofs/soak: nothing_is_lost_doubled_stuck_or_told_wrong_whatever_happens_at_once",
    ),
    # Operations
    row(
        "O1",
        "two processes work on one database",
        "story/two_processes: two_services_on_one_database_share_the_work_and_do_nothing_twice",
        "db/migrations: many_may_open_a_new_database_at_the_same_time",
    ),
    row(
        "O2",
        "the disk is full, the database's log grows, or the clock jumps",
        "db/guard: a_full_disk_refuses_and_room_is_all_it_takes_to_go_on",
        "db/guard: a_reader_who_stays_cannot_make_the_log_grow_without_end",
        "proofs/database: nothing_is_lost_or_paid_twice_while_the_database_is_ill",
        "pace: a_clock_that_is_set_back_neither_opens_nor_empties_it",
        "story/clock: a_clock_that_jumps_makes_jobs_late_and_loses_none",
    ),
    row(
        "O3",
        "a new version is deployed in the middle of anything",
        "proofs/kills: a_job_survives_a_kill",
        "proofs/kills: every_point_of_death_is_tried_with_every_provider",
        "story/process: a_stop_in_the_middle_of_a_call_and_of_a_copy_loses_neither",
    ),
    row(
        "O4",
        "a provider is away",
        "story/outages: jobs_stay_queued_while_the_provider_cannot_be_reached",
        "story/outages: a_download_that_finds_the_provider_away_is_made_later",
        "proofs/soak: nothing_is_lost_doubled_stuck_or_told_wrong_whatever_happens_at_once",
        "web/jobs: a_revoked_key_is_refused_at_once",
        why_not="There is no switch that stops new spending alone: a key that is revoked makes no more jobs, queued "
        "jobs can be cancelled, and what is under way goes on.",
    ),
)
