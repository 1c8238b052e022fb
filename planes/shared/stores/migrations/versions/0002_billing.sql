-- Plans with features and limits, their history, subscriptions and payments.
SELECT 1;
