-- As before; of two reviewers at the same time the second learns that it was decided.
CREATE OR REPLACE FUNCTION review_feedback(
    p_id uuid, p_accepted boolean, p_relevant uuid[], p_updated_at timestamptz
) RETURNS uuid LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
BEGIN ATOMIC
    UPDATE feedback f
    SET reviewed_at = now(), is_accepted = p_accepted, relevant_documents = p_relevant
    WHERE f.id = p_id AND f.reviewed_at IS NULL
      AND (p_updated_at IS NULL OR f.updated_at = p_updated_at)
    RETURNING f.tenant_id;
END;
