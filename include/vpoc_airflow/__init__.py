"""What runs inside Airflow: the bodies of the DAGs' tasks, and what plugins read."""
