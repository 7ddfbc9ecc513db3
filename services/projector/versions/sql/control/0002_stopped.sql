-- name: control_0002
-- Set if an operator has stopped the feeding of a projection that had been fed.
ALTER TABLE chat.projections ADD COLUMN IF NOT EXISTS stopped_at timestamptz;
