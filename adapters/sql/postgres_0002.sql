-- Notices for several receivers: a row for each, so that one that is away holds back no other.

ALTER TABLE outbox ADD COLUMN target text COLLATE "C" NOT NULL DEFAULT ''; -- empty: the default notifier
