-- Which other packages the ambiguous files and classes of a package may belong to.

ALTER TABLE artifact_packages
    ADD COLUMN IF NOT EXISTS ambiguous_with Array(String) COMMENT 'Package URLs' AFTER held_by;

ALTER TABLE artifact_packages_by_purl
    ADD COLUMN IF NOT EXISTS ambiguous_with Array(String) COMMENT 'Package URLs' AFTER held_by;

ALTER TABLE package_usage
    ADD COLUMN IF NOT EXISTS ambiguous_with Array(String) COMMENT 'Package URLs' AFTER held_by;
