-- Invitations, the deletion of tenants, and what it leaves.
SELECT 1;
