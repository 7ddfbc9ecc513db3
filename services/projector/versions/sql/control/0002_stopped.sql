-- name: control_0002
-- Set where an operator stopped the feeding of a projection that had been fed.
ALTER TABLE chat.projections ADD COLUMN IF NOT EXISTS stopped_at timestamptz;
