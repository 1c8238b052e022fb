-- One-time tokens of verification and password reset, and identities of OIDC providers.
SELECT 1;
