-- Limits of more than one: a unit takes as much of its limit as it says, such as what a job may cost.

ALTER TABLE units ADD COLUMN amount INTEGER NOT NULL DEFAULT 1;
